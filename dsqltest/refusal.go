package dsqltest

import (
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// SQLSTATEs of refusals.
const (
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
