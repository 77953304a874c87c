// Package occ runs transactions under optimistic concurrency control, as Amazon Aurora DSQL has
// it: writers never block, and of two transactions that change the same row the second to commit
// fails with a conflict, SQLSTATE 40001. The remedy is to run the whole transaction again.
//
//	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
//		_, err := tx.Exec(ctx, "UPDATE account SET balance = balance - 10 WHERE id = 1")
//		return err
//	})
//
// [RunTx], [RunTxValue] and [RunSQLTx] run a transaction until it commits; [Retry] runs statements
// that commit by themselves. A COMMIT whose outcome is unknown is never retried: it is a
// [*CommitUnknownError]. Giving up is a [*RetryError].
//
// The package works with any pgx pool or connection and with database/sql. It does not depend on
// the AWS SDK.
package occ

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// TxBeginner begins transactions: *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn.
type TxBeginner interface {
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
}

// RunTx runs fn in a transaction and commits it. It retries from BEGIN on conflict, until the
// transaction commits or the budget of the options is used up, which returns a [*RetryError]. fn
// must do nothing but use tx, or what may happen more than once.
//
// fn returns nil to commit, an error to roll back. RunTx retries if that error is or wraps (%w,
// errors.Join) a conflict, a stale plan after a schema change, XX000 "server unavailable", or the
// loss of the transaction's connection: nothing has been committed then. Any other error is
// returned as it is. A conflict that fn swallows fails COMMIT, and counts. Failing to begin is
// retried too, unless the role or the token was refused; a token's "Signature expired" is retried
// once, with a new token. See docs/concurrency.md.
//
// If the outcome of COMMIT is unknown, RunTx returns a [*CommitUnknownError] and does not run fn
// again.
//
// DSQL has no savepoints: tx.Begin, and RunTx on tx's connection, fail at once. tx.Commit fails;
// tx.Rollback rolls back, after which fn must return an error. When fn panics or calls
// runtime.Goexit the transaction is rolled back. The rollback does not depend on ctx, so the
// connection survives when ctx ends between two statements.
//
// On a hot row RunTx prioritizes the transaction that has waited longest; to do so, a call that
// has committed now and then returns later, by at most the duration of its attempt (see
// docs/performance.md).
func RunTx(ctx context.Context, db TxBeginner, fn func(tx pgx.Tx) error, opts ...RetryOption) error {
	r, err := newRun(db, opts)
	if err != nil {
		return err
	}
	own := ownConn(db)
	if own != nil && !own.IsClosed() && own.PgConn().TxStatus() != 'I' {
		return errNoSavepoints
	}
	return r.do(ctx, func() *failure {
		failed := attempt(ctx, db, r.txOptions, fn)
		if failed != nil && own != nil && own.IsClosed() {
			failed.kind = permanent // there is nothing to begin again on
		}
		return failed
	})
}

// RunTxValue is [RunTx] for an fn that returns a value. It returns the value of the attempt that
// committed, or the zero value and an error.
func RunTxValue[T any](ctx context.Context, db TxBeginner, fn func(tx pgx.Tx) (T, error), opts ...RetryOption) (T, error) {
	var value T
	err := RunTx(ctx, db, func(tx pgx.Tx) (err error) {
		value, err = fn(tx)
		return err
	}, opts...)
	if err != nil {
		var zero T
		return zero, err
	}
	return value, nil
}

// Retry runs fn, and runs it again whenever its error says that nothing was done: a conflict, a
// stale plan after a schema change, or a failure to connect. It is for statements outside a
// transaction, DDL among them; fn must be safe to run again. A connection that was cut leaves open
// whether the statement was applied, so that error is returned, as any other is.
func Retry(ctx context.Context, fn func(context.Context) error, opts ...RetryOption) error {
	r, err := newRun(nil, opts)
	if err != nil {
		return err
	}
	return r.do(ctx, func() *failure {
		if err := fn(ctx); err != nil {
			return &failure{classifyAutocommit(err), err}
		}
		return nil
	})
}

// ownConn returns the one connection that db is, or nil if db is a pool.
func ownConn(db TxBeginner) *pgx.Conn {
	switch db := db.(type) {
	case *pgx.Conn:
		return db
	case interface{ Conn() *pgx.Conn }:
		return db.Conn()
	}
	return nil
}
