package proxy

import (
	"cmp"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// intercepts reports whether the proxy must execute a statement itself instead of forwarding it.
func (s *session) intercepts(st *dialect.Statement) bool {
	switch st.Kind {
	case dialect.Commit:
		return s.inTransaction()
	case dialect.DDL:
		return s.txStatus() != 'E'
	}
	return s.writes(st)
}

// writes reports whether a statement takes part in conflicts. One that changes a setting counts
// too, for it is rolled back with the transaction's writes.
func (s *session) writes(st *dialect.Statement) bool {
	switch st.Kind {
	case dialect.Write, dialect.Lock, dialect.Copy:
		return s.txStatus() != 'E'
	case dialect.Setting:
		return s.txStatus() == 'T' && s.tx.savepoint
	case dialect.Read:
		if s.tx.savepoint && volatile.MatchString(st.SQL) {
			return s.txStatus() == 'T'
		}
		return s.txStatus() != 'E' && (explained.MatchString(st.SQL) || s.proxy.functions.isCalledIn(st.SQL))
	}
	return false
}

// locksAlone reports whether a statement locks rows in autocommit mode. The proxy executes it in a
// transaction block, at whose end markLocked has an effect.
func (s *session) locksAlone(st *dialect.Statement) bool {
	return st.Kind == dialect.Lock && !s.inTransaction()
}

// checkAndExec executes one of several statements of a Query message and waits for its end. It
// returns false if the statement failed; the client has then been sent the error.
func (s *session) checkAndExec(st *dialect.Statement) bool {
	s.resetTransaction()
	if refusal := s.check(st); refusal != nil {
		s.expect(&exchange{refusal: refusal, capture: isReady})
		s.server.send(&pgproto3.Query{String: refusedColumn})
		s.settle()
		return false
	}
	s.restoreFor(st)
	return s.exec(st)
}

// exec executes a checked statement and waits for its end. It returns false if the statement
// failed; the client has then been sent the error.
func (s *session) exec(st *dialect.Statement) bool {
	send := func() { s.server.send(&pgproto3.Query{String: st.SQL}) }
	switch {
	case st.Kind == dialect.Copy:
		s.query(refusedColumn)
		s.writeError(errorResponse(featureNotSupported, "dsqltest: COPY FROM must be the only statement of its string"))
		return false
	case !s.intercepts(st):
		s.trackTransaction(st.Kind)
		return s.writeReplies(s.collect(st, send))
	case st.Kind == dialect.Commit:
		return s.execCommit(st, true)
	case st.Kind == dialect.DDL:
		return s.execDDL(st, send)
	}
	return s.execWrite(&write{statement: st, simple: true}, false)
}

// execCommit commits the session's transaction. It returns false if the client was sent an error
// or was cut. explicit is false for the implicit transaction of a Query message, whose COMMIT is
// neither counted nor answered.
func (s *session) execCommit(st *dialect.Statement, explicit bool) bool {
	cut, refusal := s.commitFault()
	if refusal != nil {
		s.query("ROLLBACK")
		s.writeError(refusal)
		return false
	}
	if cut == BeforeApplied {
		s.cut()
		return false
	}
	replies := s.commit(st)
	s.trackCommit(replies, explicit)
	if cut == AfterApplied {
		s.cut()
		return false
	}
	return !explicit || s.writeReplies(replies)
}

// commitLockTimeout is lockTimeout during COMMIT, where a deferred constraint may wait for a row.
// It is longer because COMMIT cannot be tried again.
const commitLockTimeout = "5s"

// commit has PostgreSQL commit. Rivals wait until its outcome is known.
func (s *session) commit(st *dialect.Statement) []message {
	if s.tx.committed != nil {
		s.proxy.redoing.Lock()
		defer s.proxy.redoing.Unlock()
	}
	var replies []message
	x := s.expectCollect(nil, &replies)
	sql := st.SQL
	if len(s.tx.log) > 0 && s.txStatus() == 'T' {
		sql = "SET LOCAL lock_timeout = '" + commitLockTimeout + "'; " + sql
	}
	s.server.send(&pgproto3.Query{String: sql})
	s.await(x)
	replies = slices.DeleteFunc(replies, func(m message) bool { return m.kind() == 'C' && m.text() == "SET" })
	if slices.ContainsFunc(replies, func(m message) bool { return m.kind() == 'C' && m.text() == "COMMIT" }) {
		s.tx.setCommitted()
	}
	return replies
}

// commitFault returns the error or the cut that a COMMIT is to end in. The COMMIT of a failed
// transaction is left to PostgreSQL.
func (s *session) commitFault() (CommitCut, *pgproto3.ErrorResponse) {
	if s.txStatus() != 'T' {
		return 0, s.untold()
	}
	if e := s.tx.checkAge(s.proxy.Faults.now(), s.proxy.transactionAge); e != nil {
		return 0, e
	}
	if s.tx.used && s.takeCatalogChange() || s.tx.aborted {
		return 0, conflictResponse(schemaConflict)
	}
	if !s.takeBack() || !s.markLocked() {
		return 0, cmp.Or(s.untold(), conflictResponse(dataConflict))
	}
	return s.proxy.Faults.nextCommit()
}

// trackCommit records how a COMMIT ended. The transaction's DDL is in force from here on.
func (s *session) trackCommit(replies []message, explicit bool) {
	for _, m := range replies {
		if m.kind() != 'C' {
			continue
		}
		committed := m.text() == "COMMIT"
		s.proxy.updateStats(func(st *Stats) {
			switch {
			case explicit && committed:
				st.Commits++
			case explicit:
				st.Rollbacks++
			}
		})
		if committed && s.tx.ddl {
			s.mu.Lock()
			s.bumpCatalog()
			s.mu.Unlock()
		}
	}
}
