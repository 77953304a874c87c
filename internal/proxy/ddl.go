package proxy

import (
	"slices"
	"strings"

	"github.com/go-dsql/dsql/internal/dialect"
)

// ddlAttempts bounds how often DDL that others block is tried. Each attempt lasts up to
// lockTimeout, so DDL waits about a second for statements in execution, and then fails with a
// conflict.
const ddlAttempts = 10

// ddlSavepoint is the savepoint before DDL in a transaction block.
const ddlSavepoint = "dsqltest_ddl"

// execDDL executes DDL. On DSQL it never waits, and open transactions fail with a schema
// conflict at their next statement: so where PostgreSQL would wait, the idle transactions of other
// sessions are rolled back.
func (s *session) execDDL(st *dialect.Statement, send func()) bool {
	s.proxy.functions.add(st.SQL)
	s.noteDDL()
	inBlock := s.inTransaction()
	var replies []message
	for range ddlAttempts {
		if inBlock {
			s.sendInternal("SAVEPOINT " + ddlSavepoint)
		}
		replies = nil
		x := s.expectCollect(st, &replies)
		send()
		s.waitFor(x)
		if !x.blocked {
			break
		}
		if inBlock {
			s.execInternal("ROLLBACK TO " + ddlSavepoint)
		}
		s.proxy.abortOthers(s)
	}
	if inBlock && hasError(replies) {
		s.query(refusedColumn) // fails the transaction, which may have been rolled back to the savepoint
	}
	return s.writeReplies(slices.DeleteFunc(replies, isProtocolOnly))
}

// protocolOnly are the replies that only acknowledge a message: ParseComplete, BindComplete,
// CloseComplete and NoData.
const protocolOnly = "123n"

func isProtocolOnly(m message) bool { return strings.IndexByte(protocolOnly, m.kind()) >= 0 }

// abortOthers aborts the idle transactions of all other sessions of the cluster.
func (p *Proxy) abortOthers(s *session) {
	for _, other := range p.allSessions() {
		if other != s {
			other.abortIdle()
		}
	}
}

// abortIdle rolls back the session's transaction, which fails at the client's next message. A
// session that is executing a statement is left alone.
func (s *session) abortIdle() {
	if !s.busy.TryLock() {
		return
	}
	defer s.busy.Unlock()
	s.mu.Lock()
	idle := s.idleLocked()
	s.mu.Unlock()
	if !idle {
		return
	}
	s.execInternal("ROLLBACK")
	s.execInternal("BEGIN")
	s.tx = transaction{begun: s.tx.begun, used: true, aborted: true}
}
