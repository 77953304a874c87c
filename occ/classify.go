package occ

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/errno"
	"github.com/go-dsql/dsql/internal/sqlstate"
)

// failure is an attempt that did not commit.
type failure struct {
	kind kind
	err  error
}

// kind says what retrying a failure depends on.
type kind int

const (
	permanent        kind = iota // retrying cannot help, or might do harm
	dataConflict                 // OC000, or an unclassified conflict
	schemaConflict               // OC001: the retry refreshes the session
	stalePlan                    // the retry prepares the statement again
	unseenError                  // COMMIT was answered with ROLLBACK, for an error that the callback swallowed
	expiredSignature             // the next connection signs a new token
	noConnection                 // none could be made, or it was lost before COMMIT was sent
	connectLimit                 // 53300, 53400
	unknownCommit                // COMMIT was sent and not answered: for WithCommitCheck only
	unseenCommit                 // COMMIT was not answered, and WithCommitCheck says that nothing was applied
	lostStatement                // WithIdempotent: its connection was lost, perhaps after it was applied
	outOfTime                    // the time of WithMaxElapsed ended it
	kinds                        // the number of kinds
)

// isSettled reports whether a run that has ended is the cause of err. What it says of the outcome
// holds, whatever else is in err: nothing is run again.
func isSettled(err error) bool {
	var gaveUp *RetryError
	var unknown *CommitUnknownError
	var ended *endedError
	return errors.As(err, &gaveUp) || errors.As(err, &unknown) || errors.As(err, &ended)
}

// classifyInTx classifies an error of a transaction's statement: nothing has been committed.
func classifyInTx(err error) kind {
	switch {
	case isSettled(err):
		return permanent
	case ConflictKind(err) == SchemaConflict:
		return schemaConflict
	case IsConflict(err):
		return dataConflict
	case sqlstate.Has(err, sqlstate.IsStalePlan):
		return stalePlan
	case sqlstate.Has(err, sqlstate.IsUnavailable), sqlstate.Has(err, sqlstate.IsWaking):
		return noConnection
	}
	return permanent
}

// classifyBegin classifies an error that came in place of a transaction: nothing has run.
func classifyBegin(err error) kind {
	switch {
	case isSettled(err):
		return permanent
	case sqlstate.Has(err, sqlstate.IsSignatureExpired):
		return expiredSignature
	case sqlstate.Has(err, sqlstate.IsAccessDenied):
		return permanent
	case sqlstate.Has(err, sqlstate.IsConnectLimit):
		return connectLimit
	case sqlstate.Has(err, sqlstate.IsWaking), isLost(err):
		return noConnection
	}
	return classifyInTx(err)
}

// classifyAutocommit classifies an error of a function given to Retry, whose statements commit by
// themselves: only what has certainly done nothing may be retried, unless it is idempotent.
func classifyAutocommit(err error, idempotent bool) kind {
	var connect *pgconn.ConnectError
	switch {
	case isSettled(err):
		return permanent
	case errors.As(err, &connect), sqlstate.Has(err, sqlstate.IsConnectLimit), sqlstate.Has(err, sqlstate.IsWaking):
		return classifyBegin(err)
	}
	k := classifyInTx(err)
	switch {
	case k == permanent && idempotent && isLost(err) && !sqlstate.Has(err, sqlstate.IsAccessDenied),
		k == noConnection && idempotent:
		return lostStatement
	case k == noConnection:
		return permanent
	}
	return k
}

func isAborted(err error) bool { return sqlstate.Has(err, sqlstate.IsAborted) }

// isCanceled reports whether the server canceled a statement, as it is asked to when a context ends.
func isCanceled(err error) bool {
	return sqlstate.Has(err, func(e sqlstate.Error) bool { return e.SQLState() == "57014" })
}

// connectErrors returns the errors of each address or endpoint that a connect tried.
func connectErrors(err error) []error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return nil
	}
	if all, ok := connect.Unwrap().(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	return nil
}

// isLost reports whether err says that a connection was cut or could not be made. It is only for
// errors of a connection: a callback may talk to other servers. 08P01 refuses what was sent, such
// as a message that is too long: sending it again cannot help.
func isLost(err error) bool {
	if endpoints := connectErrors(err); len(endpoints) > 1 && !sqlstate.Has(err, sqlstate.IsAccessDenied) {
		return slices.ContainsFunc(endpoints, isLost)
	}
	if sqlstate.InTree(err) {
		return sqlstate.Has(err, func(e sqlstate.Error) bool {
			state := e.SQLState()
			return strings.HasPrefix(state, "57P") || strings.HasPrefix(state, "08") && state != "08P01"
		})
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false
	}
	// A TLS alert is a net.OpError too, and permanent.
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op == "dial" || op.Op == "read" || op.Op == "write"
	}
	return pgconn.Timeout(err) || // of ConnectTimeout, as the caller's context is checked elsewhere
		errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, sqlstate.ErrMaybeApplied) || // inside a transaction it was certainly not
		errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) ||
		errno.In(err, errno.Refused) ||
		errno.In(err, errno.Reset)
}
