package occ

import (
	"fmt"
	"time"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// Conflict is a kind of conflict, named by the code that DSQL puts in the message.
type Conflict string

const (
	// DataConflict means that another transaction changed the same rows and committed first.
	DataConflict Conflict = sqlstate.DataConflict
	// SchemaConflict means that the catalog changed, by DDL, GRANT or the end of an index job
	// anywhere in the cluster. Each session gets it once per change.
	SchemaConflict Conflict = sqlstate.SchemaConflict
)

// IsConflict reports whether err is or wraps a conflict: SQLSTATE 40001 in a *pgconn.PgError or
// in any error that has a SQLState() string method. It follows %w, errors.Join and
// Unwrap() []error. It never matches on text, so an error that was flattened with %v is no
// longer a conflict, and a unique violation on a row that contains "OC000" never was.
//
// A conflict has changed nothing: the whole transaction may be run again.
func IsConflict(err error) bool {
	return sqlstate.Has(err, sqlstate.IsConflict)
}

// ConflictKind returns the kind of conflict that err is or wraps: [DataConflict],
// [SchemaConflict], or "" if there is none or the server did not say which.
func ConflictKind(err error) Conflict {
	var kind string
	sqlstate.Has(err, func(e sqlstate.Error) bool {
		if sqlstate.IsConflict(e) {
			kind = sqlstate.ConflictCode(e)
		}
		return kind != ""
	})
	return Conflict(kind)
}

// RetryEvent describes an attempt that failed and is about to be retried.
type RetryEvent struct {
	Attempt int // the attempt that failed; the first is 1

	// Delay is the wait before the next attempt, which the end of another transaction may shorten.
	// It is 0 if the next attempt waits only for the serial key.
	Delay time.Duration

	Err error // why the attempt failed
}

// RetryError reports that the attempts, the time or the context ended before the transaction
// could commit. A transaction of [RunTx], [RunTxValue], [RunTxOf], [RunSQLTx] or [RunBatch] has
// committed nothing then, unless MaybeApplied is set. [Retry] cannot promise that: what its function
// did outside a transaction stays done. Nothing retries an error that is or wraps a RetryError.
type RetryError struct {
	Attempts int           // the number of attempts made
	Elapsed  time.Duration // the time since the start
	Err      error         // the last failure, and the context's error if the context ended

	// MaybeApplied reports whether one of the attempts may have been applied: a statement of [Retry]
	// that was not answered, or a COMMIT that [WithCommitCheck] did not find and that may still be
	// applied late.
	MaybeApplied bool
}

// Error returns the attempts, the time and the last failure.
func (e *RetryError) Error() string {
	attempts := "1 attempt"
	if e.Attempts != 1 {
		attempts = fmt.Sprintf("%d attempts", e.Attempts)
	}
	last := ""
	if e.MaybeApplied {
		last = ", one of which may have been applied"
	}
	return fmt.Sprintf("occ: gave up after %s in %v%s: %v", attempts, e.Elapsed.Round(time.Millisecond), last, e.Err)
}

// Unwrap returns the last failure, and the context's error if the context ended.
func (e *RetryError) Unwrap() error { return e.Err }

// CommitUnknownError reports that the server may or may not have committed: COMMIT was sent,
// and then the connection was cut, the context ended, or the answer left it open (XX000, 40003,
// classes 08, 57 and 58). Such a transaction is not retried, unless [WithCommitCheck] says that it
// was not applied. Look up what it wrote, on a new connection, by an ID of the request, and run it
// again only if nothing is there. Nothing retries an error that is or wraps a CommitUnknownError.
type CommitUnknownError struct {
	Err error // what came in place of an answer
}

// Error returns what to do, and what came in place of an answer.
func (e *CommitUnknownError) Error() string {
	return fmt.Sprintf("occ: COMMIT was sent and its outcome is unknown; look up whether the transaction is there before running it again: %v", e.Err)
}

// Unwrap returns what came in place of an answer.
func (e *CommitUnknownError) Unwrap() error { return e.Err }
