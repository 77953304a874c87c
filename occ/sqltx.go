package occ

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// RunSQLTx is [RunTx] for database/sql, with any driver whose errors have a SQLState method, as
// pgx's have. fn must only use the transaction: it neither commits nor rolls back, and has no
// deferred tx.Rollback either.
//
// A conflict that fn swallows is retried at most twice, as database/sql cannot tell it from other
// swallowed errors.
func RunSQLTx(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx) error, opts ...RetryOption) error {
	r, err := newRun(db, opts)
	if err != nil {
		return err
	}
	o, err := sqlTxOptions(r.txOptions)
	if err != nil {
		return err
	}
	return r.do(ctx, func() *failure { return sqlAttempt(ctx, db, o, fn) })
}

func sqlTxOptions(o pgx.TxOptions) (*sql.TxOptions, error) {
	levels := map[pgx.TxIsoLevel]sql.IsolationLevel{
		"":                  sql.LevelDefault,
		pgx.ReadUncommitted: sql.LevelReadUncommitted,
		pgx.ReadCommitted:   sql.LevelReadCommitted,
		pgx.RepeatableRead:  sql.LevelRepeatableRead,
		pgx.Serializable:    sql.LevelSerializable,
	}
	level, ok := levels[o.IsoLevel]
	if !ok || o.DeferrableMode != "" || o.BeginQuery != "" || o.CommitQuery != "" {
		return nil, fmt.Errorf("occ: invalid transaction options %+v: database/sql supports an isolation level and an access mode only", o)
	}
	return &sql.TxOptions{Isolation: level, ReadOnly: o.AccessMode == pgx.ReadOnly}, nil
}

// sqlAttempt runs fn once in a transaction of its own.
func sqlAttempt(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*sql.Tx) error) *failure {
	conn, err := db.Conn(ctx)
	if err != nil {
		return &failure{classifyBegin(err), fmt.Errorf("occ: begin: %w", err)}
	}
	defer conn.Close()

	// When the context of BeginTx ends, database/sql rolls back with that dead context, and pgx
	// drops the connection. So the transaction has a context of its own, which ends with ctx only
	// while BEGIN or COMMIT is in flight.
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	tx, err := conn.BeginTx(txCtx, o)
	stop()
	if err != nil {
		return &failure{classifyBegin(err), fmt.Errorf("occ: begin: %w", withContext(ctx, err))}
	}
	// Does nothing after a commit; deferred for panic and runtime.Goexit.
	defer sqlRollback(tx, cancel)

	s := newSession(driverConn(conn))
	if err := fn(tx); err != nil {
		k := classifyInTx(err)
		if s.lost(err) {
			k = noConnection
		}
		if sqlRollback(tx, cancel) == sql.ErrTxDone {
			return &failure{permanent, fmt.Errorf("%w: %w", errOwnEnd, err)}
		}
		return &failure{k, err}
	}
	if failed := s.checkBeforeCommit(ctx); failed != nil {
		return failed
	}
	stop = context.AfterFunc(ctx, cancel)
	err = tx.Commit()
	stop()
	if errors.Is(err, sql.ErrTxDone) {
		return &failure{permanent, errOwnEnd}
	}
	return classifyCommit(withContext(ctx, err), nil)
}

// sqlRollback ends tx within rollbackTimeout.
func sqlRollback(tx *sql.Tx, cancel func()) error {
	timer := time.AfterFunc(rollbackTimeout, cancel)
	defer timer.Stop()
	return tx.Rollback()
}

// withContext adds ctx's error to err where only the transaction's own context shows in it.
func withContext(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// driverConn returns pgx's connection below conn, or nil if the driver is another.
func driverConn(conn *sql.Conn) (pg *pgconn.PgConn) {
	_ = conn.Raw(func(c any) error {
		if c, ok := c.(interface{ Conn() *pgx.Conn }); ok {
			pg = c.Conn().PgConn()
		}
		return nil
	})
	return pg
}
