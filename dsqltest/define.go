package dsqltest

import (
	"slices"

	"github.com/go-dsql/dsql/internal/dialect"
)

// evictions is how often DDL that is in the way of others is tried.
const evictions = 10

// define carries out DDL. At DSQL it waits for nobody: transactions that are open meet
// a schema conflict when they go on. So the engine, where it would wait, is rid of
// them.
func (v *conversation) define(st *dialect.Statement, execute func()) bool {
	inside := v.inTransaction()
	var answers []message
	for range evictions {
		if inside {
			v.savepoint()
		}
		answers = nil
		x := v.expect(st, &answers)
		execute()
		_ = v.engine.w.Flush()
		<-x.done
		if !x.blocked {
			break
		}
		if inside {
			v.command("ROLLBACK TO " + ownName)
		}
		v.cluster.evict(v)
	}
	if inside && failed(answers) {
		v.ask(refusedColumn) // what was gone back on is not to be gone on with
	}
	return v.forward(slices.DeleteFunc(answers, ofProtocol))
}

// ofProtocol reports whether a message only says that the engine has understood.
func ofProtocol(m message) bool { return m.kind() == '1' || m.kind() == '2' || m.kind() == '3' }

// evict undoes the transactions of all sessions but one.
func (c *Cluster) evict(but *conversation) {
	for _, v := range c.conversations() {
		if v != but {
			v.evict()
		}
	}
}

// evict undoes the transaction that the session is in, and tells the client when it
// goes on. A session that is doing something is left to come to its end.
func (v *conversation) evict() {
	if !v.turn.TryLock() {
		return
	}
	defer v.turn.Unlock()
	v.mu.Lock()
	idle := v.status == 'T' && len(v.queue) == 0 && !v.gone
	v.mu.Unlock()
	if !idle {
		return
	}
	v.command("ROLLBACK")
	v.command("BEGIN")
	v.tx = transaction{begun: v.tx.begun, used: true, evicted: true}
}
