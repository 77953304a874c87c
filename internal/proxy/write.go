package proxy

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// On DSQL writers never block, each sees the rows of its snapshot, and of two that write one row
// the second to commit fails. On PostgreSQL the second to write waits until the first has ended.
// Therefore:
//
//   - While a statement waits for an idle transaction, that transaction is rolled back to before its
//     first write and keeps its snapshot (unblock, yieldTo).
//   - A transaction that has yielded executes its writes again before its next statement. If they
//     conflict with a change that was committed meanwhile, its COMMIT will fail (redo).
//   - Until then its statements are executed in private copies of the tables, as if there were no
//     other transaction (isolate).

// write is a statement that can conflict, with what is needed to execute it again.
type write struct {
	statement *dialect.Statement
	simple    bool // it came in a Query message
	describe  bool // the client has asked for the columns, and has not been told
	paramOIDs []uint32
	bind      pgproto3.Bind
	copyData  []byte // the client's messages after COPY FROM
	told      digest // what the client was told
}

// send has PostgreSQL execute sql, in place of the statement's own, up to one ReadyForQuery. It
// leaves the client's unnamed statement and portal alone.
func (w *write) send(s *session, sql string) {
	if w.statement.Kind == dialect.Copy {
		s.server.send(&pgproto3.Query{String: sql})
		_, _ = s.server.w.Write(w.copyData)
		return
	}
	bind := w.bind
	s.sendPrepared(&pgproto3.Parse{Query: sql, ParameterOIDs: w.paramOIDs}, &bind, w.simple || w.describe)
}

// execWrite executes a write. Its replies go to the client as they come. ready tells whether a
// ReadyForQuery is to be among them. It returns false if the client was sent an error.
func (s *session) execWrite(w *write, ready bool) bool {
	x := s.beginWrite(w, ready)
	if w.simple && !s.tx.isolated {
		s.server.send(&pgproto3.Query{String: w.statement.SQL})
	} else {
		x.write.hidden = protocolOnly
		w.send(s, s.tx.inCopies(w.statement.SQL))
	}
	s.await(x)
	return s.endWrite(w, x, ready)
}

// beginWrite prepares the transaction for a write and expects its replies.
func (s *session) beginWrite(w *write, ready bool) *exchange {
	x := &exchange{running: []*dialect.Statement{w.statement}, write: s.attempt(w)}
	if !ready {
		x.capture = isReady
	}
	switch {
	case !s.inTransaction():
	case s.tx.isolated:
		s.copyTables(w.statement.SQL)
		x.write.final = true
	case !s.tx.savepoint:
		s.setSavepoint()
	}
	return s.expect(x)
}

func (s *session) attempt(w *write) *attempt {
	return &attempt{statement: w.statement, inBlock: s.inTransaction()}
}

// endWrite records a write that has been executed, or executes it again on trouble.
func (s *session) endWrite(w *write, x *exchange, ready bool) bool {
	if x.write.trouble == none {
		switch {
		case x.failed:
		case s.inTransaction():
			s.tx.record(w, x.write.told)
		default:
			s.tx.setCommitted()
		}
		return !x.failed
	}
	replies := slices.DeleteFunc(s.execAgain(w, x.write), func(m message) bool {
		return isProtocolOnly(m) || x.write.described && (m.kind() == 'T' || m.kind() == 'G')
	})
	ok := s.writeReplies(replies)
	if ready {
		s.writeReady()
	}
	return ok
}

// execAgain executes a write again after trouble, and returns its replies.
func (s *session) execAgain(w *write, first *attempt) []message {
	t, held := first.trouble, first.heldBack
	switch {
	case t == readOnly: // a Lock locks nothing in a read-only transaction
		if s.inTransaction() {
			s.rollbackToSavepoint()
		}
		return s.collect(w.statement, func() { w.send(s, w.statement.Instead) })
	case !s.inTransaction():
		return s.repeat(w)
	case t == blocked:
		var replies []message
		if replies, t = s.redo(w); t == none {
			return replies
		}
		if e := s.untold(); t == canceled && e != nil {
			return []message{encode(e)}
		}
		if len(replies) > 0 {
			held = replies[0]
		}
		if t == blocked && len(replies) > 0 && s.conflictOf(held) == schemaConflict { // by DDL
			return []message{encode(conflictResponse(schemaConflict))}
		}
	}
	s.isolate(t)
	s.copyTables(w.statement.SQL)
	var told digest
	replies := s.collect(w.statement, func() { w.send(s, s.tx.inCopies(w.statement.SQL)) })
	for _, m := range replies {
		told.add(m)
	}
	switch {
	case !hasError(replies): // what was in the way is not in the transaction's snapshot
		s.tx.lost = s.tx.lost || t == violated
		s.tx.record(w, told)
	case t == violated:
		return []message{held}
	}
	return replies
}

// redoAttempts bounds how often a write is tried again that is blocked by statements in execution.
// Each attempt lasts up to lockTimeout.
const redoAttempts = 3

// repeat executes a write in autocommit mode until nothing blocks it.
func (s *session) repeat(w *write) (replies []message) {
	for range redoAttempts {
		var a *attempt
		if replies, a = s.redoOne(w); a.trouble != blocked {
			if !hasError(replies) {
				s.tx.setCommitted()
			}
			return replies
		}
	}
	return []message{encode(conflictResponse(s.conflictOf(replies[0])))}
}

// redo rolls back the transaction's writes and executes them again, and then w, if not nil. It
// returns w's replies. Only one session that holds rows does so at a time, so that two do not take
// rows from each other forever.
func (s *session) redo(w *write) (replies []message, t trouble) {
	if len(s.tx.log) > 0 {
		s.proxy.redoing.Lock()
		defer s.proxy.redoing.Unlock()
	}
	if s.tx.isBeaten() {
		return nil, conflict
	}
	for range redoAttempts {
		s.rollbackToSavepoint()
		t = s.redoLog()
		if t == none && w != nil {
			var a *attempt
			if replies, a = s.redoOne(w); a.trouble == none && !hasError(replies) {
				s.tx.record(w, a.told)
			}
			t = a.trouble
		}
		if t != blocked {
			break
		}
	}
	s.tx.yielded = t != none
	return replies, t
}

// redoLog executes the transaction's writes again. A reply that differs from the one that the
// client was sent the first time counts as a conflict.
func (s *session) redoLog() trouble {
	for _, w := range s.tx.log {
		_, a := s.redoOne(w)
		switch {
		case a.trouble == blocked, a.trouble == canceled:
			return a.trouble
		case a.trouble != none || a.told != w.told && !explained.MatchString(w.statement.SQL):
			return conflict
		}
	}
	return none
}

// redoOne executes a write. On trouble, the replies are the error.
func (s *session) redoOne(w *write) (replies []message, a *attempt) {
	a = s.attempt(w)
	x := s.expectCollect(w.statement, &replies)
	s.setAttempt(x, a)
	w.send(s, w.statement.SQL)
	s.await(x)
	switch {
	case a.trouble != none:
		replies = []message{a.heldBack}
	case slices.ContainsFunc(replies, func(m message) bool { return m.kind() == 'E' && hasCode(m, queryCanceled) }):
		a.trouble = canceled
	}
	return replies, a
}

// takeBack executes again the writes that the transaction has yielded. It returns false if they
// conflict.
func (s *session) takeBack() bool {
	for !s.tx.lost && (s.tx.yielded || s.tx.isolated) {
		_, t := s.redo(nil)
		if t != blocked || s.isClosed() {
			s.tx.isolated = false
			s.tx.lost = t != none
		}
	}
	return !s.tx.lost
}

// restoreFor is restore before a statement that may see the writes.
func (s *session) restoreFor(st *dialect.Statement) {
	switch st.Kind {
	case dialect.Empty, dialect.Begin, dialect.Commit, dialect.Rollback:
		return
	}
	s.restore()
}

// restore makes the writes that a transaction has yielded visible to it again.
func (s *session) restore() {
	if !s.tx.yielded || s.tx.isolated {
		return
	}
	if _, t := s.redo(nil); t != none && t != canceled { // which fails the statement that follows
		s.isolate(t)
	}
}

// record adds a write to the transaction's log.
func (t *transaction) record(w *write, told digest) {
	w.told = told
	t.log = append(t.log, w)
	if w.statement.Kind == dialect.Lock && strings.Contains(strings.ToLower(w.statement.SQL), "update") {
		t.locked += w.statement.SQL + "\n"
	}
}
