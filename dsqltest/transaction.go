package dsqltest

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// Ages that DSQL ends a session and a transaction at:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
const (
	sessionAge     = 60 * time.Minute
	transactionAge = 300 * time.Second
)

// transaction is what a session has done in the transaction that it is in, which may
// be of one statement only.
type transaction struct {
	begun     time.Time // by BEGIN; zero: not by one
	used      bool      // a statement has seen the schema
	ddl       bool
	dml       bool
	savepoint bool // there is one of ours
	doomed    bool // COMMIT will meet a conflict of data
	evicted   bool // all has been undone, and what comes next will meet a schema conflict
}

// beginImplicit begins a transaction, if the session is in none.
func (v *conversation) beginImplicit() {
	if !v.inTransaction() {
		v.tx = transaction{}
	}
}

// check is why a statement is refused where it stands, or nil. What it lets pass
// counts as done.
func (v *conversation) check(st *dialect.Statement) *pgproto3.ErrorResponse {
	if st.Refusal != nil {
		return asError(st.Refusal)
	}
	switch st.Kind {
	case dialect.Empty, dialect.Begin, dialect.Commit, dialect.Rollback, dialect.Setting:
		return nil
	}
	if e := v.tooOld(); e != nil {
		return e
	}
	if v.stale() || v.tx.evicted {
		return conflict(schemaConflict)
	}
	v.tx.used = true
	writes := st.Kind == dialect.Write || st.Kind == dialect.Copy
	switch {
	case st.Kind == dialect.Analyze && v.inTransaction():
		return errorResponse(activeTransaction, "ANALYZE cannot run inside a transaction block")
	case st.Kind == dialect.DDL && v.tx.ddl:
		return errorResponse(featureNotSupported, "multiple ddl statements not supported in a transaction")
	case st.Kind == dialect.DDL && v.tx.dml, writes && v.tx.ddl:
		return errorResponse(featureNotSupported, "ddl and dml are not supported in the same transaction")
	}
	v.tx.ddl = v.tx.ddl || st.Kind == dialect.DDL
	v.tx.dml = v.tx.dml || writes
	return nil
}

// stale reports whether the schema has changed since the session looked. It has
// looked then.
func (v *conversation) stale() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.cluster.catalog.Load()
	if v.catalog == now {
		return false
	}
	v.catalog = now
	return true
}

func (v *conversation) tooOld() *pgproto3.ErrorResponse {
	limit := v.cluster.transactionAge
	age := time.Since(v.tx.begun)
	if v.tx.begun.IsZero() || age <= limit {
		return nil
	}
	e := errorResponse(programLimitExceeded, fmt.Sprintf("transaction age limit of %ds exceeded", int(limit.Seconds())))
	e.Detail = fmt.Sprintf("Current transaction age %ds exceeds %ds", int(age.Seconds()), int(limit.Seconds()))
	return e
}

// controls reports whether a statement needs more than to be passed on.
func (v *conversation) controls(st *dialect.Statement) bool {
	switch st.Kind {
	case dialect.Commit:
		return v.inTransaction()
	case dialect.Write, dialect.Lock:
		return v.currentStatus() == 'T'
	case dialect.DDL:
		return v.currentStatus() != 'E'
	}
	return false
}

// carryOut carries out a statement of a Query message and waits for its end. It is
// false if it failed, of which the client is told.
func (v *conversation) carryOut(st *dialect.Statement) bool {
	v.beginImplicit()
	if refusal := v.check(st); refusal != nil {
		x := &exchange{refusal: refusal, take: func(m message) bool { return m.kind() == 'Z' }}
		v.push(x)
		v.engine.send(&pgproto3.Query{String: refusedColumn})
		v.settle()
		return false
	}
	return v.perform(st)
}

// perform is carryOut for what has been checked.
func (v *conversation) perform(st *dialect.Statement) bool {
	switch {
	case st.Kind == dialect.Copy:
		v.ask(refusedColumn)
		v.say(errorResponse(featureNotSupported, "dsqltest: COPY FROM must stand alone in its string"))
		return false
	case !v.controls(st):
		v.count(st.Kind)
		return v.forward(v.collect(st, func() { v.engine.send(&pgproto3.Query{String: st.SQL}) }))
	case st.Kind == dialect.Commit:
		return v.commit(st, true)
	case st.Kind == dialect.DDL:
		return v.define(st, func() { v.engine.send(&pgproto3.Query{String: st.SQL}) })
	}
	return v.contend(st,
		func() { v.engine.send(&pgproto3.Query{String: st.SQL}) },
		func() []message { return v.ask(st.Instead) })
}

// performPortal is perform for the extended query protocol.
func (v *conversation) performPortal(execute message, p portal) bool {
	switch p.statement.Kind {
	case dialect.Commit:
		return v.commit(p.statement, true)
	case dialect.DDL: // which has no parameters, and whose portal has ended with the batch
		return v.define(p.statement, func() {
			v.sendOwn(&pgproto3.Parse{Query: p.statement.SQL}, &pgproto3.Bind{})
		})
	}
	return v.contend(p.statement,
		func() {
			_, _ = v.engine.w.Write(execute)
			v.engine.send(&pgproto3.Sync{})
		},
		func() []message { return v.executeInstead(p) })
}

// commit ends the transaction that the session is in. It is false if the client was
// told an error, or was cut. Of success the client is told if it asked for it.
func (v *conversation) commit(st *dialect.Statement, asked bool) bool {
	cut, refusal := v.outcome()
	if refusal != nil {
		v.ask("ROLLBACK")
		v.say(refusal)
		return false
	}
	if cut == BeforeApplied {
		v.cut()
		return false
	}
	answers := v.ask(st.SQL)
	v.noteEnd(answers, asked)
	switch {
	case cut == AfterApplied:
		v.cut()
		return false
	case asked:
		return v.forward(answers)
	}
	return true
}

// outcome is what a COMMIT meets. One of a failed transaction is PostgreSQL's
// business.
func (v *conversation) outcome() (CommitCut, *pgproto3.ErrorResponse) {
	if v.currentStatus() != 'T' {
		return 0, nil
	}
	if e := v.tooOld(); e != nil {
		return 0, e
	}
	if v.tx.used && v.stale() || v.tx.evicted {
		return 0, conflict(schemaConflict)
	}
	if v.tx.doomed {
		return 0, conflict(dataConflict)
	}
	return v.cluster.faults.commit()
}

// noteEnd notes the end of a transaction, whose DDL is in force now. One that the
// client asked for is counted.
func (v *conversation) noteEnd(answers []message, asked bool) {
	for _, m := range answers {
		if m.kind() != 'C' {
			continue
		}
		committed := m.text() == "COMMIT"
		v.cluster.count(func(s *Stats) {
			switch {
			case asked && committed:
				s.Commits++
			case asked:
				s.Rollbacks++
			}
		})
		if committed && v.tx.ddl {
			v.mu.Lock()
			v.changeCatalog()
			v.mu.Unlock()
		}
	}
}

// count counts the beginning or the rolling back of a transaction.
func (v *conversation) count(what dialect.Kind) {
	switch what {
	case dialect.Begin, dialect.Commit, dialect.Rollback:
		v.unsettled = true
	default:
		return
	}
	v.mu.Lock()
	inside, again := v.status != 'I', v.conflict
	if what == dialect.Begin {
		v.conflict = false
	}
	v.mu.Unlock()
	if what == dialect.Begin && !inside {
		v.tx = transaction{begun: time.Now()}
	}
	v.cluster.count(func(s *Stats) {
		switch {
		case what == dialect.Rollback && inside:
			s.Rollbacks++
		case what == dialect.Begin && !inside:
			s.Begins++
			if again {
				s.Retries++
			}
		}
	})
}
