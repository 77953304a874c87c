// Package sqlstate reads what a server's error says: its SQLSTATE, and where DSQL uses one
// SQLSTATE for several causes, its words.
package sqlstate

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Codes that DSQL puts in the message of a conflict, and AWS's connectors into the SQLSTATE.
const (
	DataConflict   = "OC000"
	SchemaConflict = "OC001"
)

// Error is an error that carries a SQLSTATE, of pgx or any other driver.
type Error interface {
	error
	SQLState() string
}

// Has reports whether match holds for any error with a SQLSTATE in err's tree. errors.As would
// stop at the first, and a conflict may be joined behind another error.
func Has(err error, match func(Error) bool) bool {
	if e, ok := err.(Error); ok && match(e) {
		return true
	}
	if e, ok := err.(interface{ As(any) bool }); ok {
		var target Error
		if e.As(&target) && match(target) {
			return true
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return Has(e.Unwrap(), match)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if Has(err, match) {
				return true
			}
		}
	}
	return false
}

// InTree reports whether err is or wraps an error with a SQLSTATE, which a server sent.
func InTree(err error) bool {
	return Has(err, func(Error) bool { return true })
}

// Message returns what the server said, without the SQLSTATE that pgx adds.
func Message(e Error) string {
	if pg, ok := e.(*pgconn.PgError); ok {
		return pg.Message
	}
	return e.Error()
}

// IsConflict reports whether e is a conflict of either kind.
func IsConflict(e Error) bool {
	switch e.SQLState() {
	case "40001", DataConflict, SchemaConflict:
		return true
	}
	return false
}

// ConflictCode returns the code of the conflict e: DataConflict, SchemaConflict, or "" if the
// server did not say.
func ConflictCode(e Error) string {
	for _, code := range []string{DataConflict, SchemaConflict} {
		if e.SQLState() == code || strings.Contains(Message(e), "("+code+")") {
			return code
		}
	}
	return ""
}

// IsAccessDenied reports whether e refuses a role or a token.
func IsAccessDenied(e Error) bool {
	return (e.SQLState() == "08006" || e.SQLState() == "28000") && strings.Contains(Message(e), "access denied")
}

// IsSignatureExpired reports whether e is the one refusal that a newly signed token may cure.
func IsSignatureExpired(e Error) bool {
	var pg *pgconn.PgError
	return IsAccessDenied(e) && errors.As(e, &pg) && strings.HasPrefix(pg.Hint, "Signature expired")
}

// IsConnectLimit reports whether e is a limit on connections: 53300, too many are open, or
// 53400, too many were opened in a second.
func IsConnectLimit(e Error) bool {
	return e.SQLState() == "53300" || e.SQLState() == "53400"
}

// IsWaking reports whether e says that an inactive cluster is waking up.
func IsWaking(e Error) bool {
	return strings.Contains(Message(e), "waking up cluster")
}

// IsUnavailable reports whether e says that a part of DSQL was not available for a moment.
func IsUnavailable(e Error) bool {
	return e.SQLState() == "XX000" && strings.Contains(strings.ToLower(Message(e)), "server unavailable")
}

// IsOfEndpoint reports whether a refusal to connect is the endpoint's own, so that another endpoint of
// the cluster may accept the connection: limits, shutdown, waking up, and other failures that are not
// about the role, the token or the request.
func IsOfEndpoint(e Error) bool {
	state := e.SQLState()
	switch {
	case IsAccessDenied(e):
		return false
	case IsConnectLimit(e), IsWaking(e), IsUnavailable(e):
		return true
	}
	return strings.HasPrefix(state, "57P") || strings.HasPrefix(state, "08") && state != "08P01"
}

// KeepsConnections reports whether a refusal to connect says nothing of the connections that are open.
func KeepsConnections(e Error) bool { return IsConnectLimit(e) || IsWaking(e) || IsUnavailable(e) }

// IsStalePlan reports whether e refuses a prepared statement that a schema change has outdated or
// that the server does not know. pgx forgets it, so the next try prepares it again.
func IsStalePlan(e Error) bool {
	return e.SQLState() == "26000" ||
		e.SQLState() == "0A000" && strings.Contains(Message(e), "cached plan must not change result type") ||
		e.SQLState() == "08P01" && strings.Contains(Message(e), "result format")
}

// IsAborted reports whether e says that an earlier statement of the transaction has failed. It
// says nothing of why.
func IsAborted(e Error) bool {
	return e.SQLState() == "25P02"
}

// ErrMaybeApplied is a connection's loss while a statement of database/sql ran. Outside a
// transaction the statement may have been applied; inside one it was not.
var ErrMaybeApplied = errors.New("dsql: the connection was lost while the statement ran; it may have been applied")
