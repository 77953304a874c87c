package occ

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/pgtx"
)

// open acquires a connection and begins a transaction on it, unless BEGIN can travel with the first
// statement. It acquires a pool's connection itself: a transaction of Pool.BeginTx begins at once,
// and releases the connection only at its own Commit or Rollback, which pgtx replaces.
func (tx *attemptTx) open(db TxBeginner) *failure {
	switch db := db.(type) {
	case *pgxpool.Pool:
		c, failed := tx.run.acquire(tx.ctx, db)
		if failed != nil {
			return failed
		}
		tx.pooled, tx.conn = c, c.Conn()
	case *pgxpool.Conn:
		tx.conn = db.Conn()
	case *pgx.Conn:
		tx.conn = db
	default:
		if failed := tx.openForeign(db); failed != nil {
			return failed
		}
	}
	tx.session = newSession(tx.conn)
	tx.owned = tx.conn != nil && ownConn(db) != nil
	if tx.foreign == nil {
		tx.on, tx.pending = tx.conn, true
		if !tx.defersBegin() && tx.beginAlone() != nil {
			return tx.beginFailed
		}
	}
	if tx.owned {
		tx.watchEnds() // the callback may use the connection as well
	}
	return nil
}

// defersBegin reports whether BEGIN may travel with the first statement. It must not on the
// caller's own connection, where the callback's statements could overtake it; nor if a tracer is
// there, which must see it; nor if BeginQuery is set, which may be several statements.
func (tx *attemptTx) defersBegin() bool {
	return !tx.owned && tx.run.txOptions.BeginQuery == "" && pgtx.Settings(tx.conn).Tracer == nil
}

// acquire takes a connection of a pool.
func (r *run) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, *failure) {
	bounded, cancel := r.bounded(ctx)
	defer cancel()
	c, err := pool.Acquire(bounded)
	if err != nil {
		return nil, r.beginFailure(ctx, bounded, poolBusy(bounded, pool, err))
	}
	return c, nil
}

// openForeign begins a transaction on another type, which may keep the context until it ends.
func (tx *attemptTx) openForeign(db TxBeginner) *failure {
	ctx, began, cancel := tx.run.beginContext(tx.ctx)
	tx.cancel = cancel
	t, err := db.BeginTx(ctx, tx.run.txOptions)
	if failed := began(err); failed != nil {
		return failed
	}
	tx.foreign, tx.on, tx.conn = t, t, t.Conn()
	return nil
}

// release gives the connection back to its pool.
func (tx *attemptTx) release() {
	if tx.pooled != nil {
		tx.pooled.Release()
	}
	if tx.cancel != nil {
		tx.cancel(nil)
	}
}

// poolBusy adds the likely cause to the error of an acquire that failed.
func poolBusy(ctx context.Context, pool *pgxpool.Pool, err error) error {
	stat := pool.Stat()
	if ctx.Err() == nil || stat.AcquiredConns() < stat.MaxConns() {
		return err
	}
	return fmt.Errorf("all %d connections of the pool are in use; a callback that uses the pool instead of its transaction waits for itself: %w", stat.MaxConns(), err)
}

// beginAlone begins a transaction that has not begun yet. It returns why there is none.
func (tx *attemptTx) beginAlone() error {
	if !tx.pending {
		return tx.refused
	}
	tx.pending = false
	ctx, cancel := tx.run.bounded(tx.ctx)
	defer cancel()
	err := ctx.Err() // with which pgx would close the connection
	if err == nil {
		_, err = tx.conn.BeginTx(ctx, tx.run.txOptions)
	}
	if err != nil {
		tx.refused, tx.beginFailed = err, tx.run.beginFailure(tx.ctx, ctx, err)
		return err
	}
	tx.inTx = tx.pg.TxStatus() == 'T'
	return nil
}

// bounded returns the context of BEGIN, and of waiting for it: it ends with ctx, and at the end of
// the budget. An earlier deadline of ctx needs no timer, which saves 5 allocations.
func (r *run) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	end := r.start.Add(r.maxElapsed)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		return ctx, func() {}
	}
	return context.WithDeadlineCause(ctx, end, errElapsed)
}

// beginContext is bounded for a transaction of another type. Calling the function that it returns
// with BEGIN's error ends the bound: from then on the context ends only with ctx or by cancel.
func (r *run) beginContext(ctx context.Context) (context.Context, func(error) *failure, context.CancelCauseFunc) {
	c, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(r.left(), func() { cancel(errElapsed) })
	return c, func(err error) *failure {
		timer.Stop()
		return r.beginFailure(ctx, c, err)
	}, cancel
}

// beginFailure classifies the error of a BEGIN with the context c, which is ctx with a bound.
func (r *run) beginFailure(ctx, c context.Context, err error) *failure {
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && context.Cause(c) == errElapsed:
		return &failure{outOfTime, fmt.Errorf("occ: begin: %w: %v", errElapsed, err)}
	}
	return &failure{classifyBegin(err), fmt.Errorf("occ: begin: %w", withContext(ctx, err))}
}

var errElapsed = errors.New("the time of WithMaxElapsed is over")
