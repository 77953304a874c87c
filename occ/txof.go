package occ

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-dsql/dsql/internal/pgtx"
)

// Tx is a transaction of any library: *sql.Tx, *sqlx.Tx, bun.Tx, *ent.Tx and others have these
// methods.
type Tx interface {
	Commit() error
	Rollback() error
}

// RunTxOf runs fn as [RunTx] does, in a transaction of another library. begin begins one; fn must
// only use it, and neither commits nor rolls back. The context that begin is given lives as long as
// the transaction: it ends with ctx while BEGIN or COMMIT is in flight, and not in between, so that
// the connection survives. [WithTxOptions] has no effect other than its access mode, which must be
// what begin asks for: a read-only transaction whose COMMIT was not answered is run again.
//
//	err := occ.RunTxOf(ctx, func(ctx context.Context) (*sqlx.Tx, error) {
//		return db.BeginTxx(ctx, nil)
//	}, func(tx *sqlx.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE account SET balance = balance - 10 WHERE id = 1")
//		return err
//	})
//
// Errors must have a SQLState method or wrap one that does, as with pgx. On a database of
// dsql.OpenDB, RunTxOf detects a transaction that fn ended by SQL; on another driver it does not.
//
// Commit must return the database's answer: a SQLSTATE that its error carries counts as that
// answer, so a hook that runs after the commit must not return the error of another database.
func RunTxOf[T Tx](ctx context.Context, begin func(context.Context) (T, error), fn func(T) error, opts ...RetryOption) error {
	r, err := newRun(nil, opts)
	switch {
	case err != nil:
		return err
	case begin == nil || fn == nil:
		return errNilCallback
	}
	return r.do(ctx, func() *failure { return txOfAttempt(ctx, r, begin, fn) })
}

func txOfAttempt[T Tx](ctx context.Context, r *run, begin func(context.Context) (T, error), fn func(T) error) *failure {
	beginCtx, began, cancelBegin := r.beginContext(ctx)
	defer cancelBegin(nil)
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(beginCtx, cancel)
	tx, err := begin(txCtx)
	stop()
	if failed := began(err); failed != nil {
		return failed
	}
	ended := false
	rollback := func() error {
		if ended {
			return nil
		}
		ended = true
		bounded, done := r.rollbackContext(ctx)
		defer done()
		defer context.AfterFunc(bounded, cancel)()
		return tx.Rollback()
	}
	defer rollback() // for panic and runtime.Goexit

	if err := fn(tx); err != nil {
		k := r.classifySQL(session{}, err)
		rolled := rollback()
		switch {
		case errors.Is(rolled, sql.ErrTxDone), errors.Is(rolled, pgtx.ErrEnded):
			return &failure{permanent, &endedError{rolledError(rolled), err}}
		case rolled == nil && k == noConnection && classifyInTx(err) == permanent:
			k = permanent // the connection is there: fn lost one of its own
		}
		return &failure{k, withContext(ctx, err)}
	}
	if failed := (&session{}).checkBeforeCommit(ctx); failed != nil {
		return failed
	}
	ended = true
	stop = context.AfterFunc(ctx, cancel)
	err = tx.Commit()
	stop()
	switch {
	case errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil: // what ended it is unknown
		return r.classifyCommit(ctx, pgtx.Unknown, fmt.Errorf("%w: %w", contextError(ctx), err), nil)
	case errors.Is(err, sql.ErrTxDone):
		return &failure{permanent, errOwnEnd}
	}
	return r.classifyCommit(ctx, pgtx.ForeignOutcome(err), err, nil)
}

// rolledError says how a callback ended its transaction, by the error of the rollback after it.
func rolledError(rolled error) error {
	if errors.Is(rolled, pgtx.ErrCommitted) {
		return errCommittedItself
	}
	return errOwnEnd
}
