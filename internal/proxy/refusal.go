package proxy

import (
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

const accessDenied = "unable to accept connection, access denied"

// connectRefusals are DSQL's messages for new connections, by SQLSTATE.
var connectRefusals = map[string]string{
	connectionFailure:    accessDenied,
	invalidAuthorization: accessDenied,
	tooManyConnections:   "Unable to accept connection, too many open connections.",
	tooManyConfigured:    "Unable to accept connection, rate exceeded.",
}

// Refusal describes why a client was refused. Its severity is always FATAL.
type Refusal struct {
	Reason  string // exact cause, for the test's author; never sent, never secret
	Code    string // SQLSTATE as sent; empty if the connection was closed silently
	Message string // as sent
	Hint    string // as sent
	User    string // the role in the startup message
}

// send writes the refusal to the client. A failed write needs no handling: the client has gone.
func (r *Refusal) send(client io.Writer) {
	_ = writeMessage(client, &pgproto3.ErrorResponse{
		Severity:            "FATAL",
		SeverityUnlocalized: "FATAL",
		Code:                r.Code,
		Message:             r.Message,
		Hint:                r.Hint,
	})
}
