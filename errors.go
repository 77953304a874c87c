package dsql

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Conflict is a kind of conflict, by the code that DSQL puts in the message.
type Conflict string

const (
	// DataConflict: another transaction changed the same rows and committed first.
	DataConflict Conflict = "OC000"
	// SchemaConflict: the catalog changed, by DDL, GRANT or the end of an index
	// job anywhere in the cluster. Each session meets it once per change.
	SchemaConflict Conflict = "OC001"
)

// IsConflict reports whether err is or wraps a conflict: SQLSTATE 40001 in a
// *pgconn.PgError or in any error that has a SQLState() string method. It looks
// through %w, errors.Join and Unwrap() []error. It never reads texts, so an
// error that was flattened with %v is not a conflict any more, and a unique
// violation on a row that contains "OC000" never was.
//
// A conflict has changed nothing: the whole transaction may be run again.
func IsConflict(err error) bool {
	return hasState(err, isConflict)
}

// ConflictKind tells which kind of conflict err is: [DataConflict],
// [SchemaConflict], or "" if it is none or the server did not say.
func ConflictKind(err error) Conflict {
	var kind Conflict
	hasState(err, func(e stateError) bool {
		if isConflict(e) {
			kind = conflictKind(e)
		}
		return kind != ""
	})
	return kind
}

// IsAccessDenied reports whether err is or wraps DSQL's refusal of a role or a
// token: SQLSTATE 08006 or 28000 with the words "access denied". Other errors of
// class 08 are network faults. The cause is in the Hint of the *pgconn.PgError.
func IsAccessDenied(err error) bool {
	return hasState(err, isAccessDenied)
}

// IsConnectLimit reports whether err is or wraps a limit on connections: 53300,
// too many are open, or 53400, too many were opened in a second.
func IsConnectLimit(err error) bool {
	return hasState(err, func(e stateError) bool {
		return e.SQLState() == "53300" || e.SQLState() == "53400"
	})
}

// CommitUnknownError says that the server may or may not have committed: COMMIT
// was sent, and then the connection was cut, the context ended, or the answer
// was one that leaves it open (XX000, 40003, classes 08, 57 and 58). RunTx never
// runs such a transaction again. Look up what it wrote, on a new connection, by
// an ID of the request, and run it again only if nothing is there.
type CommitUnknownError struct {
	Err error // what came in place of an answer
}

// Error says what to do, and what came in place of an answer.
func (e *CommitUnknownError) Error() string {
	return fmt.Sprintf("dsql: COMMIT was sent and its outcome is unknown; look up whether the transaction is there before running it again: %v", e.Err)
}

// Unwrap returns what came in place of an answer.
func (e *CommitUnknownError) Unwrap() error { return e.Err }

// stateError is an error that carries a SQLSTATE, of pgx or any other driver.
type stateError interface {
	error
	SQLState() string
}

// hasState reports whether match holds for any error with a SQLSTATE in err's
// tree. errors.As would stop at the first, and a conflict may be joined behind
// another error.
func hasState(err error, match func(stateError) bool) bool {
	if e, ok := err.(stateError); ok && match(e) {
		return true
	}
	if e, ok := err.(interface{ As(any) bool }); ok {
		var target stateError
		if e.As(&target) && match(target) {
			return true
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return hasState(e.Unwrap(), match)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if hasState(err, match) {
				return true
			}
		}
	}
	return false
}

// message is what the server said, without the SQLSTATE that pgx adds.
func message(e stateError) string {
	if pg, ok := e.(*pgconn.PgError); ok {
		return pg.Message
	}
	return e.Error()
}

func isConflict(e stateError) bool {
	switch e.SQLState() {
	case "40001", string(DataConflict), string(SchemaConflict):
		return true
	}
	return false
}

func conflictKind(e stateError) Conflict {
	for _, kind := range []Conflict{DataConflict, SchemaConflict} {
		if e.SQLState() == string(kind) || strings.Contains(message(e), "("+string(kind)+")") {
			return kind
		}
	}
	return ""
}

func isAccessDenied(e stateError) bool {
	return (e.SQLState() == "08006" || e.SQLState() == "28000") && strings.Contains(message(e), "access denied")
}

// isSignatureExpired is the one refusal that a newly signed token may cure.
func isSignatureExpired(e stateError) bool {
	var pg *pgconn.PgError
	return isAccessDenied(e) && errors.As(e, &pg) && strings.HasPrefix(pg.Hint, "Signature expired")
}

func isWaking(e stateError) bool {
	return strings.Contains(message(e), "waking up cluster")
}

func isUnavailable(e stateError) bool {
	return e.SQLState() == "XX000" && strings.Contains(strings.ToLower(message(e)), "server unavailable")
}

// isStalePlan is a plan that a schema change has outdated. pgx forgets it, so
// the next try prepares it anew.
func isStalePlan(e stateError) bool {
	return e.SQLState() == "0A000" && strings.Contains(message(e), "cached plan must not change result type") ||
		e.SQLState() == "08P01" && strings.Contains(message(e), "result format")
}

// isAborted says that an earlier statement has failed, and nothing of why.
func isAborted(e stateError) bool {
	return e.SQLState() == "25P02"
}
