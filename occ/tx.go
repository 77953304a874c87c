package occ

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// rollbackTimeout bounds a rollback, which continues when the caller's context has ended.
const rollbackTimeout = 5 * time.Second

var (
	errNoSavepoints = errors.New("occ: DSQL has no savepoints, so transactions cannot be nested: use the transaction that the callback was given")
	errOwnCommit    = errors.New("occ: the callback must not commit: return nil, and RunTx commits")
	errOwnEnd       = errors.New("occ: the callback ended the transaction itself (a deferred Rollback does so too): return nil to commit, an error to roll back")
	errLeftOpen     = errors.New("occ: the callback left rows or a batch open, so nothing was committed: close them before returning")
	errLostBefore   = errors.New("occ: the connection was lost before COMMIT was sent; nothing was committed")
)

// attempt runs fn once in a transaction of its own.
func attempt(ctx context.Context, db TxBeginner, o pgx.TxOptions, fn func(pgx.Tx) error) *failure {
	begun, err := db.BeginTx(ctx, o)
	if err != nil {
		return &failure{classifyBegin(err), fmt.Errorf("occ: begin: %w", err)}
	}
	// Does nothing after a commit; deferred for panic and runtime.Goexit.
	defer rollback(ctx, begun)

	tx := &attemptTx{Tx: begun}
	s := newSession(pgConn(begun))
	if err := fn(tx); err != nil {
		return &failure{tx.classify(s, err), err}
	}
	switch {
	case tx.committed:
		return &failure{permanent, errOwnCommit}
	case tx.rolledBack:
		return &failure{permanent, errOwnEnd}
	case s.pg != nil && s.pg.IsBusy():
		return &failure{permanent, errLeftOpen}
	}
	if failed := s.checkBeforeCommit(ctx); failed != nil {
		return failed
	}
	return classifyCommit(begun.Commit(ctx), tx.failed)
}

// classify classifies an error that the callback returned.
func (tx *attemptTx) classify(s session, err error) kind {
	if tx.committed {
		return permanent
	}
	if k := classifyInTx(err); k != permanent {
		return k
	}
	if sqlstate.Has(err, sqlstate.IsAborted) && tx.failed != nil {
		return classifyInTx(tx.failed)
	}
	// The pool may have given the connection to others after a rollback.
	if !tx.rolledBack && s.lost(err) {
		return noConnection
	}
	return permanent
}

// pgConn returns tx's connection, or nil if tx is not on pgx's own.
func pgConn(tx pgx.Tx) *pgconn.PgConn {
	if c := tx.Conn(); c != nil {
		return c.PgConn()
	}
	return nil
}

// rollback ends tx, whether or not ctx has ended. Its error may be ignored: pgx closes the
// connection then, and nothing has been committed.
func rollback(ctx context.Context, tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	return tx.Rollback(ctx)
}

// session is the connection of an attempt, as long as its transaction lasts.
type session struct {
	pg   *pgconn.PgConn // nil: a driver that is not pgx
	inTx bool           // the server said so after BEGIN
}

func newSession(pg *pgconn.PgConn) session {
	return session{pg, pg != nil && pg.TxStatus() == 'T'}
}

// lost reports whether err, from a statement, is the loss of the connection. The callback's own
// timeout closes the connection too, and is not that.
func (s session) lost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return isLost(err) && (s.pg == nil || s.pg.IsClosed())
}

// checkBeforeCommit returns why COMMIT must not be sent, or nil.
func (s session) checkBeforeCommit(ctx context.Context) *failure {
	switch {
	case ctx.Err() != nil:
		return &failure{permanent, fmt.Errorf("occ: not committed: %w", ctx.Err())}
	case s.pg == nil:
		return nil
	case s.pg.IsClosed():
		return &failure{noConnection, errLostBefore}
	case s.inTx && s.pg.TxStatus() == 'I':
		return &failure{permanent, errOwnEnd}
	}
	return nil
}

// classifyCommit classifies the error of COMMIT; nil means that it committed. swallowed is the
// error, if any, that had failed the transaction before and that the callback did not return.
//
// checkBeforeCommit has made sure that the connection was open and the context had not ended.
// Whatever else goes wrong does so with COMMIT in flight, so all but an answer of the server, or a
// failed write, leaves the outcome unknown. pgconn.SafeToRetry does not help: it is true when the
// connection is cut after COMMIT was applied.
func classifyCommit(err, swallowed error) *failure {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrTxCommitRollback) && swallowed != nil:
		return &failure{classifyInTx(swallowed), fmt.Errorf("occ: %w, as a statement had failed and the callback returned nil: %w", err, swallowed)}
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return &failure{unseenError, fmt.Errorf("occ: %w, as a statement had failed and the callback returned nil", err)}
	case isOutcome(err):
		return &failure{classifyInTx(err), fmt.Errorf("occ: commit: %w", err)}
	case isWriteFailure(err):
		return &failure{noConnection, fmt.Errorf("occ: COMMIT could not be sent, nothing was committed: %w", err)}
	}
	return &failure{permanent, &CommitUnknownError{Err: err}}
}

// isOutcome reports whether err is the server's answer that it did not commit.
func isOutcome(err error) bool {
	answered := false
	open := sqlstate.Has(err, func(e sqlstate.Error) bool {
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

// isWriteFailure reports whether the network did not take all of COMMIT. A part of a message does
// nothing.
func isWriteFailure(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write"
}
