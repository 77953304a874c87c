package proxy

import (
	"fmt"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// transaction is the state of the transaction that a session is in. A statement in autocommit mode
// is a transaction too.
type transaction struct {
	begun   time.Time // when BEGIN was received, by the cluster's clock; zero in autocommit mode
	used    bool      // a statement has seen the schema
	ddl     bool
	dml     bool
	aborted bool // rolled back for another session's DDL; what comes next fails with a schema conflict

	savepoint bool             // the savepoint before the first write is set
	log       []*write         // the writes since, in order
	yielded   bool             // they have been rolled back
	isolated  bool             // statements are executed in copies of the tables
	copies    []*regexp.Regexp // qualified names of what has been copied
	locked    string           // the statements FOR UPDATE
	committed *atomic.Bool     // nil: it has no rivals
	rivals    []*atomic.Bool   // committed of those that have waited for this one, or it for them
	lost      bool             // COMMIT will fail with a data conflict
}

// add records one more statement, or returns the error that DSQL refuses the combination with.
func (t *transaction) add(kind dialect.Kind, inBlock bool) *pgproto3.ErrorResponse {
	t.used = true
	writes := kind == dialect.Write || kind == dialect.Copy
	switch {
	case kind == dialect.Analyze && inBlock:
		return errorResponse(activeTransaction, "ANALYZE cannot run inside a transaction block")
	case kind == dialect.DDL && t.ddl:
		return errorResponse(featureNotSupported, "multiple ddl statements not supported in a transaction")
	case kind == dialect.DDL && t.dml, writes && t.ddl:
		return errorResponse(featureNotSupported, "ddl and dml are not supported in the same transaction")
	}
	t.ddl = t.ddl || kind == dialect.DDL
	t.dml = t.dml || writes
	return nil
}

// compete makes two transactions rivals: when one has committed, the other's COMMIT will fail.
func compete(a, b *transaction) {
	for _, t := range []*transaction{a, b} {
		if t.committed == nil {
			t.committed = new(atomic.Bool)
		}
	}
	a.rivals = append(a.rivals, b.committed)
	b.rivals = append(b.rivals, a.committed)
}

func (t *transaction) isBeaten() bool {
	return slices.ContainsFunc(t.rivals, func(committed *atomic.Bool) bool { return committed.Load() })
}

// setCommitted records that the transaction has committed.
func (t *transaction) setCommitted() {
	if t.committed != nil {
		t.committed.Store(true)
	}
}

// checkAge returns DSQL's error for a transaction that has lasted too long, or nil.
func (t *transaction) checkAge(now time.Time, limit time.Duration) *pgproto3.ErrorResponse {
	age := now.Sub(t.begun)
	if t.begun.IsZero() || age <= limit {
		return nil
	}
	e := errorResponse(programLimitExceeded, fmt.Sprintf("transaction age limit of %ds exceeded", int(limit.Seconds())))
	e.Detail = fmt.Sprintf("Current transaction age %ds exceeds %ds", int(age.Seconds()), int(limit.Seconds()))
	return e
}
