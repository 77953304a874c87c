package dsql

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// rollbackTimeout bounds a rollback, which goes on when the caller's context has
// ended.
const rollbackTimeout = 5 * time.Second

// TxBeginner begins transactions: *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn.
type TxBeginner interface {
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
}

// RunTx runs fn in a transaction and commits it, again from BEGIN whenever the
// transaction meets a conflict, until it commits or the budget of the options is
// used up, which gives a [*RetryError]. fn must do nothing but use tx, or what
// may happen more than once.
//
// fn returns nil to commit, an error to roll back. RunTx runs it again if that
// error is or wraps (%w, errors.Join) a conflict, a stale plan after a schema
// change, XX000 "server unavailable", or the loss of the transaction's
// connection: then nothing has been committed. Any other error is returned as
// it is. A conflict that fn swallows is met again at COMMIT, and counts. Failing
// to begin is retried too, but for a refusal of the role or the token; on a
// token's "Signature expired" a new one is tried once. See
// docs/concurrency.md.
//
// If the outcome of COMMIT is not known the error is a [*CommitUnknownError], and
// fn is not run again.
//
// DSQL has no savepoints: tx.Begin, and RunTx on tx's connection, fail at once.
// tx.Commit fails; tx.Rollback rolls back, after which fn must return an error.
// When fn panics or calls runtime.Goexit the transaction is rolled back. Rolling
// back does not depend on ctx, so the connection is kept when ctx ends between
// two statements.
//
// On a hot row RunTx lets who has lost longest go first; for that, now and then, a
// call that has committed returns later, by at most the time of its attempt (see
// docs/performance.md).
func RunTx(ctx context.Context, db TxBeginner, fn func(tx pgx.Tx) error, opts ...RetryOption) error {
	r, err := newRetrier(db, opts)
	if err != nil {
		return err
	}
	own := ownConn(db)
	if own != nil && !own.IsClosed() && own.PgConn().TxStatus() != 'I' {
		return errNoSavepoints
	}
	return r.run(ctx, func() (failure, error) {
		f, err := attempt(ctx, db, r.txOptions, fn)
		if own != nil && own.IsClosed() {
			f = final // there is nothing to begin again on
		}
		return f, err
	})
}

// RunTxValue is [RunTx] for an fn that returns a value. It returns the value of
// the attempt that committed, or the zero value and an error.
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

// ownConn is the one connection that db is, or nil if db is a pool.
func ownConn(db TxBeginner) *pgx.Conn {
	switch db := db.(type) {
	case *pgx.Conn:
		return db
	case interface{ Conn() *pgx.Conn }:
		return db.Conn()
	}
	return nil
}

// attempt runs fn once in a transaction of its own.
func attempt(ctx context.Context, db TxBeginner, o pgx.TxOptions, fn func(pgx.Tx) error) (failure, error) {
	begun, err := db.BeginTx(ctx, o)
	if err != nil {
		return beginFailure(err), fmt.Errorf("dsql: begin: %w", err)
	}
	// Does nothing after a commit; deferred for panic and runtime.Goexit.
	defer rollback(ctx, begun)

	tx := &attemptTx{Tx: begun}
	s := newSession(pgConn(begun))
	if err := fn(tx); err != nil {
		return tx.failure(s, err), err
	}
	switch {
	case tx.committed:
		return final, errOwnCommit
	case tx.rolledBack:
		return final, errOwnEnd
	case s.pg != nil && s.pg.IsBusy():
		return final, errLeftOpen
	}
	if f, err := s.beforeCommit(ctx); err != nil {
		return f, err
	}
	return afterCommit(begun.Commit(ctx), tx.failed)
}

// failure is what an error that the callback returned means.
func (tx *attemptTx) failure(s session, err error) failure {
	if tx.committed {
		return final
	}
	if f := statementFailure(err); f != final {
		return f
	}
	if hasState(err, isAborted) && tx.failed != nil {
		return statementFailure(tx.failed)
	}
	// The pool may have given the connection to others after a rollback.
	if !tx.rolledBack && s.lost(err) {
		return noConnection
	}
	return final
}

// pgConn is tx's connection, or nil if tx is not on pgx's own.
func pgConn(tx pgx.Tx) *pgconn.PgConn {
	if c := tx.Conn(); c != nil {
		return c.PgConn()
	}
	return nil
}

// rollback ends tx, whether or not ctx has ended. What goes wrong needs no
// telling: pgx then closes the connection, and nothing has been committed.
func rollback(ctx context.Context, tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	return tx.Rollback(ctx)
}
