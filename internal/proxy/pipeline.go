package proxy

import (
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// A pipeline up to its Sync is one transaction, also with writes and DDL in it. But in autocommit
// mode these are executed on their own, for they may have to be tried again. So they are held until
// the next message: a Sync ends the transaction with them, and anything else puts them in a
// transaction block that the Sync ends.

// held is a portal whose execution waits for the next message.
type held struct {
	portal
	execute message
}

// executeHeld executes what is held. sync is true when a Sync follows; executeHeld reports whether
// it has answered that too.
func (f *frontend) executeHeld(sync bool) (answered bool) {
	h := f.held
	f.held = nil
	ddl := h.statement.Kind == dialect.DDL
	inBlock := f.inTransaction()
	beginBlock := f.locksAlone(h.statement) || !sync && !inBlock
	// The client's own Execute can be used if nothing must come before it (BEGIN, the savepoint,
	// copies of tables, writes that the transaction has yielded) and PostgreSQL still has the
	// portal.
	asSent := !ddl && !beginBlock && inBlock == f.tx.savepoint && !f.tx.isolated && !f.tx.yielded && h.rollbacks == f.rollbacks
	if asSent {
		f.skipping = !f.executeAsSent(h, sync)
		return sync
	}
	if f.skipping = !f.drain(); f.skipping {
		return false
	}
	if beginBlock {
		f.execInternal("BEGIN")
		f.inPipeline = true
	}
	f.skipping = !f.execPortal(h.portal)
	return false
}

// executeAsSent executes a write as part of the client's batch and ends the batch.
func (f *frontend) executeAsSent(h *held, sync bool) bool {
	w, x := h.write(), f.openBatch()
	a := f.attempt(w)
	f.batch = nil
	f.mu.Lock()
	x.running = append(x.running, w.statement)
	x.write = a
	if !sync {
		x.capture = isReady
	}
	f.mu.Unlock()
	_, _ = f.server.w.Write(h.execute)
	f.server.send(&pgproto3.Sync{})
	f.await(x)
	w.describe = h.described && a.trouble == readOnly // an error of Bind: Describe was not answered
	return f.endWrite(w, x, sync)
}

// execPortal executes a portal again, after the batch that it was bound in.
func (f *frontend) execPortal(p portal) bool {
	switch p.statement.Kind {
	case dialect.Commit:
		return f.execCommit(p.statement, true)
	case dialect.DDL: // has no parameters
		return f.execDDL(p.statement, func() {
			f.sendPrepared(&pgproto3.Parse{Query: p.statement.SQL}, &pgproto3.Bind{}, false)
		})
	}
	f.restore()
	return f.execWrite(p.write(), false)
}

// execStale executes a portal that PostgreSQL has closed when the transaction yielded.
func (f *frontend) execStale(p portal) bool {
	w := p.write()
	f.restoreFor(w.statement)
	replies := f.collect(w.statement, func() { w.send(f.session, w.statement.SQL) })
	return f.writeReplies(slices.DeleteFunc(replies, isProtocolOnly))
}

// endPipeline ends the transaction block of a pipeline and sends the result.
func (f *frontend) endPipeline() {
	f.inPipeline = false
	f.drain()
	switch f.txStatus() {
	case 'T':
		f.execCommit(&dialect.Statement{Kind: dialect.Commit, SQL: "COMMIT"}, false)
	case 'E':
		f.execInternal("ROLLBACK")
	}
	f.writeReady()
}
