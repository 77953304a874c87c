package occ_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

func sqlUpdate(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, updateN, 1)
	return err
}

func TestRunSQLTxRetriesConflicts(t *testing.T) {
	t.Parallel()
	var n int64
	for _, test := range []struct {
		name, prefix string
		run          func(ctx context.Context, tx *sql.Tx) error
	}{
		{"BEGIN", "begin", sqlUpdate},
		{"ExecContext", "update", sqlUpdate},
		{"QueryRowContext", "select", func(ctx context.Context, tx *sql.Tx) error {
			return tx.QueryRowContext(ctx, selectN, 1).Scan(&n)
		}},
		{"wrapped", "update", func(ctx context.Context, tx *sql.Tx) error {
			if err := sqlUpdate(ctx, tx); err != nil {
				return fmt.Errorf("save: %w", errors.Join(errors.New("other"), err))
			}
			return nil
		}},
		{"swallowed", "update", func(ctx context.Context, tx *sql.Tx) error { _ = sqlUpdate(ctx, tx); return nil }},
		{"COMMIT", commit, sqlUpdate},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(2, fakepg.Execute, test.prefix, conflict()))
			var seen events
			err := occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error {
				return test.run(t.Context(), tx)
			}, quick(), seen.option())
			require.NoError(t, err)
			require.Len(t, seen.all, 2)
			require.Equal(t, 3, s.Count("begin"))
			require.Equal(t, 1, s.Sessions(), "the connection is kept")
		})
	}
}

func TestRunSQLTxReturnsOtherErrors(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, "update", failing("23505", dataMessage)))
	db := openSQL(t, s)
	err := occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error { return sqlUpdate(t.Context(), tx) })
	require.EqualError(t, err, "ERROR: "+dataMessage+" (SQLSTATE 23505)")
	require.Equal(t, 1, s.Count("begin"))
	require.Equal(t, 1, s.Count("rollback"))

	own := errors.New("own")
	require.Same(t, own, occ.RunSQLTx(t.Context(), db, func(*sql.Tx) error { return own }))
	require.Equal(t, 2, s.Count("rollback"))

	require.NoError(t, db.Close())
	err = occ.RunSQLTx(t.Context(), db, func(*sql.Tx) error { return nil })
	require.EqualError(t, err, "occ: begin: sql: database is closed")
}

func TestRunSQLTxSwallowedErrorIsNoSuccess(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(3, fakepg.Execute, "update", failing("23505", "duplicate key")))
	err := occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error {
		_ = sqlUpdate(t.Context(), tx)
		return nil
	}, quick())
	require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
	require.ErrorContains(t, err, "a statement had failed and the callback returned nil")
	require.Equal(t, 3, s.Count("begin"))
}

func TestRunSQLTxCallbackMayNotEndTheTransaction(t *testing.T) {
	t.Parallel()
	conflicting := fakepg.Conflict()
	for name, run := range map[string]func(tx *sql.Tx) error{
		"Commit":                    func(tx *sql.Tx) error { return tx.Commit() },
		"Rollback":                  func(tx *sql.Tx) error { return tx.Rollback() },
		"Commit, then a conflict":   func(tx *sql.Tx) error { return errors.Join(tx.Commit(), conflicting) },
		"Rollback, then a conflict": func(tx *sql.Tx) error { return errors.Join(tx.Rollback(), conflicting) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t)
			err := occ.RunSQLTx(t.Context(), openSQL(t, s), run)
			require.ErrorContains(t, err, "occ: the callback ended the transaction itself")
			require.Equal(t, 1, s.Count("begin"))
		})
	}
	t.Run("in SQL", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t)
		err := occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error {
			_, err := tx.Exec("rollback")
			return err
		})
		require.ErrorContains(t, err, "occ: the callback ended the transaction itself")
		require.Zero(t, s.Count(commit))
	})
}

func TestRunSQLTxPanicAndGoexitRollBack(t *testing.T) {
	t.Parallel()
	value := errors.New("the panic")
	s := startSQL(t)
	db := openSQL(t, s)
	require.PanicsWithValue(t, value, func() {
		_ = occ.RunSQLTx(t.Context(), db, func(*sql.Tx) error { panic(value) })
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = occ.RunSQLTx(t.Context(), db, func(*sql.Tx) error { runtime.Goexit(); return nil })
	}()
	<-done
	require.Equal(t, 2, s.Count("rollback"))
	require.Equal(t, 1, s.Sessions())
	require.Zero(t, db.Stats().InUse)
}

func TestRunSQLTxOptions(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, commit, conflict()))
	db := openSQL(t, s)
	err := occ.RunSQLTx(t.Context(), db, func(*sql.Tx) error { return nil },
		quick(), occ.WithTxOptions(pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}))
	require.NoError(t, err)
	require.Equal(t, 2, s.Count("begin isolation level repeatable read read only"))

	for _, o := range []pgx.TxOptions{{BeginQuery: "begin"}, {CommitQuery: "commit"}, {DeferrableMode: pgx.Deferrable}, {IsoLevel: "chaos"}} {
		err := occ.RunSQLTx(t.Context(), db, func(*sql.Tx) error { t.Error("it ran"); return nil }, occ.WithTxOptions(o))
		require.ErrorContains(t, err, "occ: invalid transaction options")
	}
}

func TestRunSQLTxContextInTheCallbackKeepsTheConnection(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	db := openSQL(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error {
		cancel()
		return sqlUpdate(ctx, tx)
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, s.Count("rollback"))
	require.NoError(t, db.PingContext(t.Context()))
	require.Equal(t, 1, s.Sessions())
}

// fakeDriver is a driver that is not pgx; its transactions commit as told.
type fakeDriver struct{ commits []error }

func (d *fakeDriver) Connect(context.Context) (driver.Conn, error) { return fakeConn{d}, nil }
func (d *fakeDriver) Driver() driver.Driver                        { return nil }

type fakeConn struct{ *fakeDriver }

func (c fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (c fakeConn) Close() error                        { return nil }
func (c fakeConn) Begin() (driver.Tx, error)           { return c, nil }
func (c fakeConn) Rollback() error                     { return nil }

func (c fakeConn) Commit() error {
	err := c.commits[0]
	c.fakeDriver.commits = c.commits[1:]
	return err
}

func TestRunSQLTxOnAnotherDriver(t *testing.T) {
	t.Parallel()
	lost := otherDriver{"40001", "pq: " + dataMessage}
	gone := errors.New("driver: the server went away")
	d := &fakeDriver{commits: []error{lost, lost, nil, lost, gone}}
	db := sql.OpenDB(d)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	run := func() error { return occ.RunSQLTx(t.Context(), db, func(*sql.Tx) error { return nil }, quick()) }
	require.NoError(t, run())
	require.Len(t, d.commits, 2)
	err := run()
	var unknown *occ.CommitUnknownError
	require.ErrorAs(t, err, &unknown)
	require.ErrorIs(t, err, gone)
	require.Empty(t, d.commits)
}

// A prepared statement of database/sql stays stale on its connection too.
func TestPreparedStatementsOfDatabaseSQLHeal(t *testing.T) {
	t.Parallel()
	s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
		if st.Step == fakepg.Bind && st.Session == 1 {
			return failing("0A000", "cached plan must not change result type")
		}
		return fakepg.Reply{}
	})
	db := openSQL(t, s)
	stmt, err := db.PrepareContext(t.Context(), updateN)
	require.NoError(t, err)
	defer stmt.Close()
	calls := 0
	require.NoError(t, occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error {
		calls++
		_, err := tx.StmtContext(t.Context(), stmt).ExecContext(t.Context(), 1)
		return err
	}))
	require.Equal(t, 2, calls)
}

func TestConflictThatWasSwallowedBefore25P02IsRetriedInDatabaseSQL(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, "update", conflict()))
	calls := 0
	require.NoError(t, occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error {
		calls++
		_ = sqlUpdate(t.Context(), tx)
		return sqlUpdate(t.Context(), tx)
	}, quick()))
	require.Equal(t, 2, calls)
}

// wrapping is a driver.Connector whose connections hide pgx's, as tracing libraries' do.
type wrapping struct{ driver.Connector }

func (c wrapping) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	return wrapped{conn}, err
}

type wrapped struct{ driver.Conn }

func (c wrapped) Raw() driver.Conn { return c.Conn }

func (c wrapped) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c wrapped) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func TestConnectionIsFoundBelowAWrappedDriver(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	db := sql.OpenDB(wrapping{stdlib.GetConnector(*s.pool.Config().ConnConfig)})
	defer db.Close()
	err := occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "commit; begin")
		require.NoError(t, err)
		return fakepg.Conflict()
	})
	require.ErrorContains(t, err, "the server has committed it")
	require.Equal(t, 2, s.Count("begin"))
}
