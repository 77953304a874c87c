package proxy

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	connectionFailure    = "08006"
	protocolViolation    = "08P01"
	featureNotSupported  = "0A000"
	foreignKeyViolation  = "23503"
	uniqueViolation      = "23505"
	activeTransaction    = "25001"
	readOnlyTransaction  = "25006"
	invalidAuthorization = "28000"
	invalidCatalogName   = "3D000"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	syntaxError          = "42601"
	inFailedTransaction  = "25P02"
	undefinedColumn      = "42703"
	outOfResources       = "53000"
	tooManyConnections   = "53300"
	tooManyConfigured    = "53400"
	programLimitExceeded = "54000"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014"
	internalError        = "XX000"
)

// DSQL's messages for the two kinds of conflict.
const (
	dataConflict   = "change conflicts with another transaction (OC000)"
	schemaConflict = "schema has been updated by another transaction (OC001)"
)

func errorResponse(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message}
}

func conflictResponse(message string) *pgproto3.ErrorResponse {
	return errorResponse(serializationFailure, message)
}

func refusalResponse(r *dialect.Refusal) *pgproto3.ErrorResponse {
	e := errorResponse(r.Code, r.Message)
	e.Hint = r.Hint
	return e
}

// isConflict reports whether an ErrorResponse carries a conflict.
func isConflict(m message) bool { return hasCode(m, serializationFailure) }

// hasCode reports whether an ErrorResponse has a SQLSTATE.
func hasCode(m message, code string) bool {
	var e pgproto3.ErrorResponse
	return e.Decode(m.body()) == nil && e.Code == code
}

func hasError(replies []message) bool {
	return slices.ContainsFunc(replies, func(m message) bool { return m.kind() == 'E' })
}

// conflictOf is conflictMessage for an ErrorResponse.
func (r *relay) conflictOf(m message) string {
	var e pgproto3.ErrorResponse
	if e.Decode(m.body()) != nil {
		return ""
	}
	return r.conflictMessage(&e)
}

// conflictMessage returns DSQL's message for an error that PostgreSQL reports because of another
// transaction, or "". A wait for a row's lock may be reported without the row, as one for a table's
// lock is: it is a schema conflict only if DDL holds that.
func (r *relay) conflictMessage(e *pgproto3.ErrorResponse) string {
	message := conflictIn(e)
	if message == schemaConflict && e.Code == lockNotAvailable && r.proxy.ddl.Load() == 0 {
		return dataConflict
	}
	return message
}

// conflictIn returns what the error alone says. Errors that a test's own function raises in DSQL's
// words stay as they are.
func conflictIn(e *pgproto3.ErrorResponse) string {
	switch {
	case strings.Contains(e.Message, "(OC0"):
		return ""
	case e.Code == serializationFailure, e.Code == deadlockDetected:
		return dataConflict
	case e.Code == lockNotAvailable && strings.Contains(e.Where, "tuple"): // waited for a row
		return dataConflict
	case e.Code == lockNotAvailable,
		strings.HasPrefix(e.Message, "tuple concurrently "),                     // concurrent DDL
		strings.HasPrefix(e.Message, "could not open relation with OID "),       // a dropped table
		e.Code == uniqueViolation && strings.HasPrefix(e.ConstraintName, "pg_"): // both create the same
		return schemaConflict
	}
	return ""
}
