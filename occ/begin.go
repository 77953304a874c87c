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
// statement. It takes a pool's connection by itself, which it needs to send COMMIT by itself.
func (tx *attemptTx) open(ctx context.Context, db TxBeginner) (err error) {
	o := tx.run.txOptions
	switch db := db.(type) {
	case *pgxpool.Pool:
		if tx.pooled, err = db.Acquire(ctx); err != nil {
			return poolBusy(ctx, db, err)
		}
		tx.conn = tx.pooled.Conn()
	case *pgxpool.Conn:
		tx.conn = db.Conn()
	case *pgx.Conn:
		tx.conn = db
	default:
		if tx.foreign, err = db.BeginTx(ctx, o); err != nil {
			return err
		}
		tx.on, tx.conn = tx.foreign, tx.foreign.Conn()
	}
	tx.owned = ownConn(db) != nil && tx.conn != nil
	if tx.foreign == nil {
		tx.on = tx.conn
		// Statements that the callback sends on a connection of its own must be in the transaction, a
		// tracer must be told of BEGIN, and a BEGIN of the caller's own may be several statements.
		tx.pending = !tx.owned && o.BeginQuery == "" && pgtx.Settings(tx.conn).Tracer == nil
	}
	if tx.foreign == nil && !tx.pending {
		if _, err = tx.conn.BeginTx(ctx, o); err != nil {
			return err
		}
	}
	tx.session = newSession(tx.conn)
	if tx.owned {
		tx.watchEnds() // the callback may use the connection as well
	}
	return nil
}

// release gives the connection back to its pool.
func (tx *attemptTx) release() {
	if tx.pooled != nil {
		tx.pooled.Release()
	}
}

// poolBusy adds the likely cause to the error of waiting for a connection in vain.
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
	ctx, began, cancel := tx.run.beginContext(tx.ctx)
	defer cancel(nil)
	err := ctx.Err() // with which pgx would close the connection
	if err == nil {
		_, err = tx.conn.BeginTx(ctx, tx.run.txOptions)
	}
	if failed := began(err); failed != nil {
		tx.refused, tx.beginFailed = err, failed
		return err
	}
	tx.inTx = tx.pg.TxStatus() == 'T'
	return nil
}

// beginContext returns a context for BEGIN, which ends with what is left of the budget, and a
// function to call with BEGIN's error: from then on the context ends only with ctx or by cancel.
func (r *run) beginContext(ctx context.Context) (context.Context, func(error) *failure, context.CancelCauseFunc) {
	c, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(r.left(), func() { cancel(errElapsed) })
	return c, func(err error) *failure {
		timer.Stop()
		switch {
		case err == nil:
			return nil
		case ctx.Err() == nil && context.Cause(c) == errElapsed:
			return &failure{outOfTime, fmt.Errorf("occ: begin: %w: %v", errElapsed, err)}
		}
		return &failure{classifyBegin(err), fmt.Errorf("occ: begin: %w", withContext(ctx, err))}
	}, cancel
}

var errElapsed = errors.New("the time of WithMaxElapsed is over")
