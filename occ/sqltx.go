package occ

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql/internal/pgtx"
)

// RunSQLTx runs fn as [RunTx] does, for database/sql, with any driver whose errors have a SQLState
// method, as pgx's have. fn must only use the transaction: it neither commits nor rolls back, and
// has no deferred tx.Rollback either.
//
// A conflict that fn swallows is retried at most twice, as database/sql cannot tell it from other
// swallowed errors. Below a driver that wraps another, pgx's connection is found if each wrapper has
// a method Raw() driver.Conn, as otelsql's has.
func RunSQLTx(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx) error, opts ...RetryOption) error {
	r, err := newRun(db, opts)
	if err != nil {
		return err
	}
	o, err := sqlTxOptions(r.txOptions)
	switch {
	case err != nil:
		return err
	case db == nil:
		return errNilDatabase
	case fn == nil:
		return errNilCallback
	}
	return r.do(ctx, func() *failure { return r.sqlAttempt(ctx, db, o, fn) })
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
func (r *run) sqlAttempt(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*sql.Tx) error) (failed *failure) {
	beginCtx, began, cancelBegin := r.beginContext(ctx)
	defer cancelBegin(nil)
	conn, err := db.Conn(beginCtx)
	if err != nil {
		return began(err)
	}
	defer conn.Close()
	var s session
	inConn := func(f func(*pgx.Conn) error) {
		_ = conn.Raw(func(c any) error {
			if c := pgxConn(c); c != nil {
				return f(c)
			}
			return nil
		})
	}

	// When the context of BeginTx ends, database/sql rolls back with that dead context, and pgx
	// drops the connection. So the transaction has a context of its own, which ends with ctx only
	// while BEGIN or COMMIT is in flight.
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(beginCtx, cancel)
	tx, err := conn.BeginTx(txCtx, o)
	stop()
	if failed := began(err); failed != nil {
		return failed
	}
	// The callback's SQL goes past this package, so all of it is watched.
	inConn(func(c *pgx.Conn) error { s = newSession(c); s.watchEnds(); return nil })
	defer inConn(func(*pgx.Conn) error { s.watch.Stop(); return nil })
	// Does nothing after a commit; deferred for panic and runtime.Goexit.
	defer r.sqlRollback(ctx, tx, s, cancel)

	err = r.interruptible(ctx, s.pg, func() error { return fn(tx) })
	if failed := s.endedItself(err); failed != nil {
		return failed
	}
	if err != nil {
		k := r.classifySQL(s, err)
		if rolled := r.sqlRollback(ctx, tx, s, cancel); errors.Is(rolled, sql.ErrTxDone) || errors.Is(rolled, pgtx.ErrEnded) {
			return &failure{permanent, &endedError{rolledError(rolled), err}}
		}
		if k == stalePlan { // prepared statements of database/sql stay stale
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		return &failure{k, withContext(ctx, err)}
	}
	if failed := s.checkBeforeCommit(ctx); failed != nil {
		return failed
	}
	s.watch.Reset()
	stop = context.AfterFunc(ctx, cancel)
	err = tx.Commit()
	stop()
	switch {
	case errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil && !s.watch.CommitSent(): // database/sql rolled back
		return &failure{permanent, notCommitted(ctx)}
	case errors.Is(err, sql.ErrTxDone):
		return &failure{permanent, errOwnEnd}
	}
	return r.classifyCommit(ctx, s.watch.Outcome(err), err, nil)
}

// classifySQL classifies an error that the callback returned.
func (r *run) classifySQL(s session, err error) kind {
	k := classifyInTx(err)
	switch {
	case k != permanent || isSettled(err):
		return k
	case isAborted(err):
		return unseenError // of an error that the callback swallowed, which may have been a conflict
	case s.lost(err):
		return noConnection
	}
	return permanent
}

// sqlRollback ends tx within the bounds of a rollback.
func (r *run) sqlRollback(ctx context.Context, tx *sql.Tx, s session, cancel func()) error {
	bounded, done := r.rollbackContext(ctx)
	defer done()
	stop := context.AfterFunc(bounded, func() {
		cancel()
		if s.pg != nil {
			_ = s.pg.Conn().SetDeadline(time.Unix(1, 0)) // rows that are open wait for the server
		}
	})
	defer stop()
	return tx.Rollback()
}

// pgxConn returns pgx's connection below c, or nil if the driver is another.
func pgxConn(c any) *pgx.Conn {
	for {
		if conn, ok := c.(interface{ Conn() *pgx.Conn }); ok {
			return conn.Conn()
		}
		wrapper, ok := c.(interface{ Raw() driver.Conn })
		if !ok {
			return nil
		}
		c = wrapper.Raw()
	}
}
