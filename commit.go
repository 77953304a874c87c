package dsql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	errLostBefore = errors.New("dsql: the connection was lost before COMMIT was sent; nothing was committed")
	errOwnEnd     = errors.New("dsql: the callback ended the transaction itself (a deferred Rollback does too): return nil to commit, an error to roll back")
)

// session is the connection of an attempt, as long as its transaction lasts.
type session struct {
	pg   *pgconn.PgConn // nil: a driver that is not pgx
	inTx bool           // the server said so after BEGIN
}

func newSession(pg *pgconn.PgConn) session {
	return session{pg, pg != nil && pg.TxStatus() == 'T'}
}

// lost reports whether err, from a statement, is the loss of the connection.
// The callback's own timeout closes the connection too, and is not that.
func (s session) lost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return isLost(err) && (s.pg == nil || s.pg.IsClosed())
}

// beforeCommit returns why COMMIT is not to be sent, if so.
func (s session) beforeCommit(ctx context.Context) (failure, error) {
	switch {
	case ctx.Err() != nil:
		return final, fmt.Errorf("dsql: not committed: %w", ctx.Err())
	case s.pg == nil:
		return final, nil
	case s.pg.IsClosed():
		return noConnection, errLostBefore
	case s.inTx && s.pg.TxStatus() == 'I':
		return final, errOwnEnd
	}
	return final, nil
}

// afterCommit says what the error of COMMIT means. failed is the error, if any,
// that had failed the transaction before and that the callback swallowed.
//
// beforeCommit has made sure that the connection was open and the context had
// not ended. Whatever else goes wrong does so with COMMIT on its way, so all but
// an answer of the server, or a failed write, leaves the outcome open.
// pgconn.SafeToRetry is no help: it is true when the connection is cut after
// COMMIT was applied.
func afterCommit(err, failed error) (failure, error) {
	switch {
	case err == nil:
		return final, nil
	case errors.Is(err, pgx.ErrTxCommitRollback) && failed != nil:
		return statementFailure(failed), fmt.Errorf("dsql: %w, as a statement had failed and the callback returned nil: %w", err, failed)
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return unseen, fmt.Errorf("dsql: %w, as a statement had failed and the callback returned nil", err)
	case isOutcome(err):
		return statementFailure(err), fmt.Errorf("dsql: commit: %w", err)
	case isWriteFailure(err):
		return noConnection, fmt.Errorf("dsql: COMMIT could not be sent, nothing was committed: %w", err)
	}
	return final, &CommitUnknownError{Err: err}
}

// isOutcome reports whether err is the server's answer that it did not commit.
func isOutcome(err error) bool {
	answered := false
	open := hasState(err, func(e stateError) bool {
		answered = true
		state := e.SQLState()
		return len(state) != 5 || state == "40003" ||
			strings.HasPrefix(state, "08") || // connection exception
			strings.HasPrefix(state, "57") || // operator intervention: shutdown, cancel
			strings.HasPrefix(state, "58") || // system error
			strings.HasPrefix(state, "XX") // internal error: "server unavailable"
	})
	return answered && !open
}

// isWriteFailure reports whether the network did not take all of COMMIT. A part
// of a message does nothing.
func isWriteFailure(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write"
}
