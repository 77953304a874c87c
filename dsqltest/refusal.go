package dsqltest

import (
	"io"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// SQLSTATEs.
const (
	activeTransaction    = "25001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	programLimitExceeded = "54000"
	undefinedColumn      = "42703"
	uniqueViolation      = "23505"
	connectionFailure    = "08006"
	protocolViolation    = "08P01"
	featureNotSupported  = "0A000"
	invalidAuthorization = "28000"
	invalidCatalogName   = "3D000"
	internalError        = "XX000"
	serializationFailure = "40001"
)

const accessDenied = "unable to accept connection, access denied"

// Refusal is why a client was not let in. Severity is FATAL in every one.
type Refusal struct {
	Reason  string // the exact cause, for the author of the test; never told to the client, never a secret
	Code    string // SQLSTATE, as the client was told; empty if it was cut off without a word
	Message string // as the client was told
	Hint    string // as the client was told
	User    string // the role that the client asked for
}

// send tells the client. It is gone if that fails, so nobody wants the error.
func (r *Refusal) send(client io.Writer) {
	message := pgproto3.ErrorResponse{
		Severity:            "FATAL",
		SeverityUnlocalized: "FATAL",
		Code:                r.Code,
		Message:             r.Message,
		Hint:                r.Hint,
	}
	_ = send(client, &message)
}

func send(w io.Writer, message pgproto3.BackendMessage) error {
	packet, err := message.Encode(nil)
	if err != nil {
		return err
	}
	_, err = w.Write(packet)
	return err
}

const (
	dataConflict   = "change conflicts with another transaction (OC000)"
	schemaConflict = "schema has been updated by another transaction (OC001)"
)

func conflict(words string) *pgproto3.ErrorResponse {
	return errorResponse(serializationFailure, words)
}

// isConflict is for messages of errors.
func isConflict(m message) bool {
	var e pgproto3.ErrorResponse
	return e.Decode(m.body()) == nil && e.Code == serializationFailure
}

func errorResponse(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message}
}

func asError(r *dialect.Refusal) *pgproto3.ErrorResponse {
	e := errorResponse(r.Code, r.Message)
	e.Hint = r.Hint
	return e
}
