// Package occ runs transactions under optimistic concurrency control, as Amazon Aurora DSQL has
// it: writers never block, and of two transactions that change the same row the second to commit
// fails with a conflict, SQLSTATE 40001. The remedy is to run the whole transaction again.
//
//	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
//		_, err := tx.Exec(ctx, "UPDATE account SET balance = balance - 10 WHERE id = 1")
//		return err
//	})
//
// [RunTx], [RunTxValue], [RunSQLTx] and [RunTxOf] run a transaction until it commits; [RunBatch]
// runs one in a single round trip; [Retry] runs statements that commit by themselves. A COMMIT
// whose outcome is unknown is not retried: it is a [*CommitUnknownError], unless [WithCommitCheck]
// finds out. Giving up is a [*RetryError].
//
// The package works with any pgx pool or connection and with database/sql. It does not depend on
// the AWS SDK.
package occ

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TxBeginner begins transactions: *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn.
type TxBeginner interface {
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
}

// RunTx runs fn in a transaction and commits it, and retries from BEGIN on conflict, until the
// transaction commits or the budget of the options is used up, which returns a [*RetryError]. fn
// must have no side effects outside tx that are not idempotent.
//
// On a *pgxpool.Pool, BEGIN travels with the first statement of fn, which saves a round trip
// (docs/concurrency.md lists the exceptions). If BEGIN fails, that statement returns its error, and
// fn is called again by the retry.
//
// fn returns nil to commit, an error to roll back. RunTx retries if that error is or wraps (%w,
// errors.Join) a conflict, a stale plan after a schema change, XX000 "server unavailable", or the
// loss of the transaction's connection: nothing has been committed then. Any other error is
// returned as it is, and so is one that is or wraps a [*RetryError] or a [*CommitUnknownError],
// whatever else it wraps. If fn ignores a conflict, COMMIT fails and RunTx retries. Failing to
// begin is retried too, unless the role or the token was refused; a token's "Signature expired" is
// retried once, with a new token. See docs/concurrency.md.
//
// If the outcome of COMMIT is unknown, RunTx returns a [*CommitUnknownError] and does not run fn
// again, unless the transaction is read-only or [WithCommitCheck] says that it was not applied.
//
// DSQL has no savepoints: tx.Begin, and RunTx on tx's connection, fail at once. tx.Commit fails;
// tx.Rollback rolls back, after which fn must return an error. When fn panics or calls
// runtime.Goexit the transaction is rolled back. The rollback does not depend on ctx, so the
// connection survives when ctx ends between two statements.
//
// A transaction that fn ends itself, by SQL or on tx.Conn(), is not run again whatever fn returns,
// and the error says so. To see that, RunTx replaces a protocol trace (pgproto3.Frontend.Trace) of
// the connection while fn may use the connection directly.
//
// ctx bounds everything. A statement that does not end with it, since fn gave it another context,
// ends half a second later. See [WithMaxElapsed] for the other bound.
//
// On a hot row RunTx prioritizes the waiting transaction that began first (see
// docs/performance.md).
func RunTx(ctx context.Context, db TxBeginner, fn func(tx pgx.Tx) error, opts ...RetryOption) error {
	var r txRun
	return r.runTx(ctx, db, fn, fn == nil, opts)
}

func (r *txRun) runTx(ctx context.Context, db TxBeginner, fn func(tx pgx.Tx) error, missing bool, opts []RetryOption) error {
	err := r.init(db, opts)
	switch {
	case err != nil:
		return err
	case isNil(db):
		return errNilDatabase
	case missing:
		return errNilCallback
	}
	own := ownConn(db)
	if own != nil && !own.IsClosed() && own.PgConn().TxStatus() != 'I' {
		return errNoSavepoints
	}
	return r.do(ctx, func() *failure {
		failed := r.attempt(ctx, db, fn)
		if failed != nil && failed.kind != unknownCommit && own != nil && own.IsClosed() {
			failed.kind = permanent // there is nothing to begin again on
		}
		return failed
	})
}

var (
	errNilDatabase = errors.New("occ: the database must not be nil: use a pool or a connection")
	errNilCallback = errors.New("occ: the callback must not be nil")
)

// RunTxValue runs fn as [RunTx] does, and returns the value of the attempt that committed, or that
// may have: with a [*CommitUnknownError] it returns the value of that attempt. With any other error
// it returns the zero value. If the COMMITs of several attempts were not answered, it returns the
// value of the last of them.
func RunTxValue[T any](ctx context.Context, db TxBeginner, fn func(tx pgx.Tx) (T, error), opts ...RetryOption) (T, error) {
	var r txRun
	var value, late, zero T
	r.onLate = func() { late = value }
	err := r.runTx(ctx, db, func(tx pgx.Tx) (err error) {
		value, err = fn(tx)
		return err
	}, fn == nil, opts)
	var unknown *CommitUnknownError
	switch {
	case err != nil && !errors.As(err, &unknown):
		return zero, err
	case r.endedLate:
		return late, err
	}
	return value, err
}

// Retry runs fn, and runs it again whenever its error says that nothing was done: a conflict, a
// stale plan after a schema change, or a failure to connect. It is for statements outside a
// transaction, DDL among them; fn must be safe to run again. A connection that was cut leaves open
// whether the statement was applied, so that error is returned, as any other is, unless
// [WithIdempotent] says that this does no harm. What was done before an error stays done: see
// [RetryError].
func Retry(ctx context.Context, fn func(context.Context) error, opts ...RetryOption) error {
	r, err := newRun(nil, opts)
	switch {
	case err != nil:
		return err
	case fn == nil:
		return errNilCallback
	}
	r.autocommits = true
	return r.do(ctx, func() *failure {
		if err := fn(ctx); err != nil {
			if !isSettled(err) {
				err = withContext(ctx, err)
			}
			return &failure{classifyAutocommit(err, r.idempotent), err}
		}
		return nil
	})
}

// ownConn returns the one connection that db is, or nil if db is a pool.
func ownConn(db TxBeginner) *pgx.Conn {
	switch db := db.(type) {
	case *pgx.Conn:
		return db
	case *pgxpool.Pool:
		return nil
	case interface{ Conn() *pgx.Conn }:
		return db.Conn()
	}
	return nil
}
