package occ

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/pgtx"
)

// session is the connection of an attempt, as long as its transaction lasts.
type session struct {
	pg    *pgconn.PgConn // nil: a driver that is not pgx
	inTx  bool           // the server said so after BEGIN
	watch *pgtx.Watch    // nil: nothing can end the transaction unseen

	unwatched bool // watch has stopped
}

func newSession(conn *pgx.Conn) session {
	if conn == nil {
		return session{}
	}
	pg := conn.PgConn()
	return session{pg: pg, inTx: pg.TxStatus() == 'T'}
}

// watchEnds detects from now on what ends the transaction.
func (s *session) watchEnds() {
	if s.watch == nil && s.pg != nil && !s.pg.IsClosed() {
		s.watch = pgtx.NewWatch(s.pg)
	}
}

// unwatch ends the watch, while the connection is certainly the session's. What it has seen stays.
func (s *session) unwatch() {
	if !s.unwatched {
		s.unwatched = true
		s.watch.Stop()
	}
}

// endedItself returns the failure of an attempt whose callback ended the transaction itself by SQL,
// and returned err; nil if it did not.
func (s *session) endedItself(err error) *failure {
	switch {
	case s.watch.Committed():
		return &failure{permanent, &endedError{errCommittedItself, err}}
	case s.pg == nil:
		return nil
	case s.pg.IsClosed() && s.watch.CommitSent():
		return &failure{permanent, &CommitUnknownError{Err: errors.Join(errOwnCommit, err)}}
	case s.watch.Ended(), s.inTx && !s.pg.IsClosed() && !s.pg.IsBusy() && s.pg.TxStatus() == 'I':
		return &failure{permanent, &endedError{errOwnEnd, err}}
	}
	return nil
}

var errCommittedItself = errors.New("occ: the callback ended the transaction itself, and the server has committed it, so it is not run again: return nil to commit, an error to roll back")

// endedError is the error of a transaction that its callback ended by SQL. Nothing runs it again.
type endedError struct{ how, err error }

func (e *endedError) Error() string {
	if e.err == nil {
		return e.how.Error()
	}
	return fmt.Sprintf("%v: %v", e.how, e.err)
}

func (e *endedError) Unwrap() []error {
	if e.err == nil {
		return []error{e.how}
	}
	return []error{e.how, e.err}
}

// lost reports whether err, from a statement, is the loss of the connection. The callback's own
// timeout closes the connection too, and is not that.
func (s *session) lost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return isLost(err) && (s.pg == nil || s.pg.IsClosed())
}

// checkBeforeCommit returns why COMMIT must not be sent, or nil.
func (s *session) checkBeforeCommit(ctx context.Context) *failure {
	switch {
	case s.pg != nil && s.pg.IsBusy():
		return &failure{permanent, errLeftOpen}
	case ctx.Err() != nil:
		return &failure{permanent, notCommitted(ctx)}
	case s.pg != nil && s.pg.IsClosed():
		return &failure{noConnection, fmt.Errorf("occ: %w", pgtx.ErrLost)}
	}
	return nil
}

// discard closes the connection, without a message that a silent server would delay.
func (s *session) discard() {
	if s.pg != nil {
		pgtx.CloseNow(s.pg)
	}
}

func notCommitted(ctx context.Context) error {
	return fmt.Errorf("occ: not committed: %w", contextError(ctx))
}

// contextError returns the error of a context that has ended, with its cause.
func contextError(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	} else if cause != nil {
		return cause
	}
	return ctx.Err()
}

// withContext adds the error of a context that has ended to err where err shows only its
// consequence, such as a closed connection.
func withContext(ctx context.Context, err error) error {
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case errors.Is(err, ctx.Err()):
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", err, cause)
		}
		return err
	case isLost(err), isCanceled(err), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", contextError(ctx), err)
	}
	return err
}
