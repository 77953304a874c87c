package dsql

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// failure is what an error means for running again.
type failure int

const (
	final            failure = iota // running again cannot help, or might do harm
	dataConflict                    // OC000, or a conflict of no known kind
	schemaConflict                  // OC001: the retry refreshes the session
	stalePlan                       // the retry prepares the statement anew
	unseen                          // COMMIT was answered with ROLLBACK, for an error that the callback swallowed unseen
	expiredSignature                // the next connection signs a new token
	noConnection                    // none could be made, or it was lost before COMMIT was sent
	connectLimit                    // 53300, 53400
)

// statementFailure is for an error from inside a transaction: nothing has been
// committed.
func statementFailure(err error) failure {
	var gaveUp *RetryError
	var unknown *CommitUnknownError
	switch {
	case errors.As(err, &gaveUp), errors.As(err, &unknown):
		return final
	case ConflictKind(err) == SchemaConflict:
		return schemaConflict
	case IsConflict(err):
		return dataConflict
	case hasState(err, isStalePlan):
		return stalePlan
	case hasState(err, isUnavailable):
		return noConnection
	}
	return final
}

// beginFailure is for an error in place of a transaction: nothing has run.
func beginFailure(err error) failure {
	switch {
	case hasState(err, isSignatureExpired):
		return expiredSignature
	case IsAccessDenied(err):
		return final
	case IsConnectLimit(err):
		return connectLimit
	case hasState(err, isWaking), isLost(err):
		return noConnection
	}
	return statementFailure(err)
}

// singleFailure is for an error of a function given to Retry, whose statements
// commit by themselves: only what has certainly done nothing may run again.
func singleFailure(err error) failure {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || IsConnectLimit(err) {
		return beginFailure(err)
	}
	if f := statementFailure(err); f != noConnection {
		return f
	}
	return final
}

// isLost reports whether err says that a connection was cut or could not be
// made. Only for errors of a connection: a callback may talk to other servers.
func isLost(err error) bool {
	if hasState(err, func(stateError) bool { return true }) {
		return hasState(err, func(e stateError) bool {
			return strings.HasPrefix(e.SQLState(), "08") || strings.HasPrefix(e.SQLState(), "57P")
		})
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false
	}
	// A TLS alert is a net.OpError too, and final.
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op == "dial" || op.Op == "read" || op.Op == "write"
	}
	return pgconn.Timeout(err) || // of ConnectTimeout, as the caller's context is looked at elsewhere
		errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, errMaybeApplied) || // OpenDB's word for it, which in a transaction is certain: it was not
		errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.ECONNRESET)
}
