package dsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// RunSQLTx is [RunTx] for database/sql, with the drivers whose errors have a
// SQLState method: pgx and others. fn uses the transaction only, and neither
// commits nor rolls back, so it has no deferred tx.Rollback either.
//
// A conflict that fn swallows is retried twice only, as database/sql cannot tell
// it from other swallowed errors.
func RunSQLTx(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx) error, opts ...RetryOption) error {
	r, err := newRetrier(db, opts)
	if err != nil {
		return err
	}
	o, err := sqlTxOptions(r.txOptions)
	if err != nil {
		return err
	}
	return r.run(ctx, func() (failure, error) { return sqlAttempt(ctx, db, o, fn) })
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
		return nil, fmt.Errorf("dsql: database/sql knows an isolation level and an access mode, not %+v", o)
	}
	return &sql.TxOptions{Isolation: level, ReadOnly: o.AccessMode == pgx.ReadOnly}, nil
}

// sqlAttempt runs fn once in a transaction of its own.
func sqlAttempt(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*sql.Tx) error) (failure, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return beginFailure(err), fmt.Errorf("dsql: begin: %w", err)
	}
	defer conn.Close()

	// When the context of BeginTx ends, database/sql rolls back with that dead
	// context, and pgx drops the connection. So the transaction has a context of
	// its own, which ends with ctx only while BEGIN or COMMIT is on its way.
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	tx, err := conn.BeginTx(txCtx, o)
	stop()
	if err != nil {
		return beginFailure(err), fmt.Errorf("dsql: begin: %w", withContext(ctx, err))
	}
	// Does nothing after a commit; deferred for panic and runtime.Goexit.
	defer sqlRollback(tx, cancel)

	s := newSession(driverConn(conn))
	if err := fn(tx); err != nil {
		f := statementFailure(err)
		if s.lost(err) {
			f = noConnection
		}
		if sqlRollback(tx, cancel) == sql.ErrTxDone {
			return final, fmt.Errorf("%w: %w", errOwnEnd, err)
		}
		return f, err
	}
	if f, err := s.beforeCommit(ctx); err != nil {
		return f, err
	}
	stop = context.AfterFunc(ctx, cancel)
	err = tx.Commit()
	stop()
	if errors.Is(err, sql.ErrTxDone) {
		return final, errOwnEnd
	}
	return afterCommit(withContext(ctx, err), nil)
}

// sqlRollback ends tx within rollbackTimeout.
func sqlRollback(tx *sql.Tx, cancel func()) error {
	timer := time.AfterFunc(rollbackTimeout, cancel)
	defer timer.Stop()
	return tx.Rollback()
}

// withContext adds ctx's error to err where only the transaction's context shows
// in it.
func withContext(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// driverConn is pgx's connection below conn, or nil if the driver is another.
func driverConn(conn *sql.Conn) (pg *pgconn.PgConn) {
	_ = conn.Raw(func(c any) error {
		if c, ok := c.(interface{ Conn() *pgx.Conn }); ok {
			pg = c.Conn().PgConn()
		}
		return nil
	})
	return pg
}
