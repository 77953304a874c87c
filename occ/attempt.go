package occ

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/pgtx"
)

var (
	errNoSavepoints = errors.New("occ: DSQL has no savepoints, so transactions cannot be nested: use the transaction that the callback was given")
	errOwnCommit    = errors.New("occ: the callback must not commit: return nil, and RunTx commits")
	errOwnEnd       = errors.New("occ: the callback ended the transaction itself (a deferred Rollback does so too): return nil to commit, an error to roll back")
	errLeftOpen     = errors.New("occ: the callback left rows or a batch open, so nothing was committed: close them before returning")
)

// txRun is a run of RunTx together with its first attempt, in one allocation.
type txRun struct {
	run
	firstAttempt attemptTx
}

// attempt runs fn once in a transaction of its own.
func (r *txRun) attempt(ctx context.Context, db TxBeginner, fn func(pgx.Tx) error) *failure {
	tx := &r.firstAttempt
	if r.attempts > 0 {
		tx = &attemptTx{} // the callback may have kept the first
	}
	tx.run, tx.ctx = &r.run, ctx
	defer tx.release()
	if failed := tx.open(db); failed != nil {
		return failed
	}
	defer tx.finish(ctx) // for panic and runtime.Goexit; does nothing that has been done

	err := tx.call(fn)
	if failed := tx.judge(err); failed != nil {
		return failed
	}
	if tx.beginAlone() != nil { // of a callback without statements
		return tx.beginFailed
	}
	tx.closed = true
	tx.unwatch() // what ended the transaction before COMMIT has been seen
	if tx.foreign != nil {
		err := tx.foreign.Commit(ctx)
		return r.classifyCommit(ctx, pgtx.ForeignOutcome(err), err, tx.failed)
	}
	outcome, err := pgtx.Commit(ctx, tx.conn, r.txOptions.CommitQuery)
	return r.classifyCommit(ctx, outcome, err, tx.failed)
}

// call calls fn and bounds its statements. On a connection of its own the callback may send some past
// the transaction, and a transaction of another type may give them another context.
func (tx *attemptTx) call(fn func(pgx.Tx) error) error {
	tx.interrupter.start(tx.run, tx.pg)
	defer tx.interrupter.stop()
	if tx.owned || tx.foreign != nil {
		tx.interrupter.after(tx.ctx)
	}
	return fn(tx)
}

// judge returns the failure of an attempt whose callback returned err, or nil if COMMIT may be
// sent.
func (tx *attemptTx) judge(err error) *failure {
	switch failed := tx.endedItself(err); {
	case failed != nil:
		return failed
	// BEGIN's error decides about the retry, whatever the callback made of it. After a settled
	// error or the end of ctx there is no retry, and the callback's error says more.
	case tx.beginFailed != nil && !isSettled(err) && (err == nil || tx.ctx.Err() == nil):
		return tx.beginFailed
	case err == nil && tx.commits:
		return &failure{permanent, errOwnCommit}
	case err == nil && tx.rolledBack:
		return &failure{permanent, errOwnEnd}
	case err == nil && tx.refused != nil:
		return tx.run.classifyCommit(tx.ctx, pgtx.RolledBack, pgx.ErrTxCommitRollback, tx.refused)
	case err == nil && tx.failed != nil && tx.pg != nil && tx.pg.IsClosed() && !isLost(tx.failed):
		return tx.run.classifyCommit(tx.ctx, pgtx.RolledBack, pgx.ErrTxCommitRollback, tx.failed)
	case err == nil:
		return tx.checkBeforeCommit(tx.ctx)
	case tx.commits:
		return &failure{permanent, err}
	}
	return tx.classify(err)
}

// classify classifies an error that the callback returned.
func (tx *attemptTx) classify(err error) *failure {
	if isSettled(err) {
		return &failure{permanent, err}
	}
	k := classifyInTx(err)
	if k == permanent && isAborted(err) && tx.failed != nil {
		k = classifyInTx(tx.failed)
	}
	// The pool may have given the connection to others after a rollback.
	if k == permanent && !tx.rolledBack && tx.lost(err) {
		k = noConnection
	}
	if k == stalePlan && !tx.rolledBack {
		again := staleStatement{tx.pg, tx.sql}
		if tx.run.stale == again && !tx.owned {
			tx.discard() // it was prepared by name, and stays stale
		}
		tx.run.stale = again
	}
	return &failure{k, withContext(tx.ctx, err)}
}

// staleStatement is a statement that a schema change made stale on a connection.
type staleStatement struct {
	pg  *pgconn.PgConn
	sql string
}

// classifyCommit classifies what became of COMMIT. swallowed is the error, if any, that had failed
// the transaction before and that the callback did not return.
func (r *run) classifyCommit(ctx context.Context, o pgtx.Outcome, err, swallowed error) *failure {
	switch {
	case o == pgtx.Committed:
		return nil
	case isSettled(err): // of dsql.OpenDB's Commit, or of a run in a hook of another library's
		return r.unknownOutcome(ctx, err)
	case o == pgtx.RolledBack && swallowed != nil:
		return &failure{classifyInTx(swallowed), fmt.Errorf("occ: %w, as a statement had failed and the callback returned nil: %w", pgx.ErrTxCommitRollback, swallowed)}
	case o == pgtx.RolledBack:
		return &failure{unseenError, fmt.Errorf("occ: %w, as a statement had failed and the callback returned nil", pgx.ErrTxCommitRollback)}
	case o == pgtx.Refused:
		return &failure{classifyInTx(err), fmt.Errorf("occ: commit: %w", err)}
	case o == pgtx.NotSent && ctx.Err() != nil:
		return &failure{permanent, notCommitted(ctx)}
	case o == pgtx.NotSent && errors.Is(err, pgtx.ErrLost):
		return &failure{noConnection, fmt.Errorf("occ: %w", err)}
	case o == pgtx.NotSent:
		return &failure{noConnection, fmt.Errorf("occ: COMMIT could not be sent, nothing was committed: %w", err)}
	}
	return r.unknownOutcome(ctx, &CommitUnknownError{Err: withContext(ctx, err)})
}

// unknownOutcome is the failure of a COMMIT that was sent and not answered. A transaction that
// wrote nothing may be run again.
func (r *run) unknownOutcome(ctx context.Context, err error) *failure {
	var unknown *CommitUnknownError
	switch {
	case !errors.As(err, &unknown):
		return &failure{permanent, err}
	case r.txOptions.AccessMode != pgx.ReadOnly:
		return &failure{unknownCommit, err}
	case ctx.Err() != nil:
		return &failure{permanent, fmt.Errorf("occ: a read-only transaction was not committed: %w", withContext(ctx, unknown.Err))}
	}
	return &failure{noConnection, fmt.Errorf("occ: the connection was lost at COMMIT of a read-only transaction: %w", unknown.Err)}
}

// finish ends what has not ended: it rolls back, whether or not ctx has ended, and stops the watch.
// The connection is closed if a rollback fails, and nothing has been committed then.
func (tx *attemptTx) finish(ctx context.Context) (err error) {
	if tx.closed {
		return nil
	}
	tx.closed = true
	tx.rolledBack = true
	tx.unwatch()
	if tx.pending || tx.refused != nil {
		return nil // nothing has begun
	}
	ctx, cancel := tx.run.rollbackContext(ctx)
	defer cancel()
	if tx.foreign != nil {
		tx.interrupter.stop()
		err = tx.foreign.Rollback(ctx)
		tx.pg = nil // it may be in use by another caller now
		return err
	}
	if _, err = tx.conn.Exec(ctx, "rollback"); err != nil {
		tx.discard()
	}
	return err
}

const (
	// rollbackTimeout bounds a rollback, which continues when the caller's context has ended.
	rollbackTimeout = 5 * time.Second

	// grace is how much later than the context and the time of WithMaxElapsed an attempt may end:
	// to roll back, so that the connection survives.
	grace = 500 * time.Millisecond
)

// rollbackContext returns the context of a rollback: it has what is left of the budget, but a grace
// at least.
func (r *run) rollbackContext(ctx context.Context) (context.Context, func()) {
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(rollbackTimeout, max(grace, r.left())))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return detached, func() { stop(); cancel() }
}
