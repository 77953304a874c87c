package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// silent never answers statements that begin with prefix.
func silent(t *testing.T, prefix string) *scripted {
	t.Helper()
	release := make(chan struct{})
	s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
		if st.Step == fakepg.Execute && strings.HasPrefix(st.SQL, prefix) {
			<-release
		}
		return fakepg.Reply{}
	})
	t.Cleanup(func() { close(release) })
	return s
}

// Without the bounds these calls do not return, and the test binary's timeout ends them.
func TestSilentServerDoesNotOutlastTheBounds(t *testing.T) {
	t.Parallel()
	unbounded := context.Background() // of the callback's statements
	for _, prefix := range []string{"begin", "update", "rollback"} {
		for name, run := range map[string]func(ctx context.Context, s *scripted, opts ...occ.RetryOption) error{
			"RunTx": func(ctx context.Context, s *scripted, opts ...occ.RetryOption) error {
				return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error {
					return errors.Join(update(unbounded, tx), errors.New("rolls back"))
				}, opts...)
			},
			"RunSQLTx": func(ctx context.Context, s *scripted, opts ...occ.RetryOption) error {
				return occ.RunSQLTx(ctx, openSQL(t, s), func(tx *sql.Tx) error {
					return errors.Join(sqlUpdate(unbounded, tx), errors.New("rolls back"))
				}, opts...)
			},
		} {
			t.Run(name+"/"+prefix+"/context", func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				err := run(ctx, silent(t, prefix))
				require.Error(t, err)
				if prefix != "rollback" {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
			})
			t.Run(name+"/"+prefix+"/WithMaxElapsed", func(t *testing.T) {
				t.Parallel()
				err := run(t.Context(), silent(t, prefix), occ.WithMaxElapsed(50*time.Millisecond))
				require.Error(t, err)
				if prefix != "rollback" {
					require.ErrorAs(t, err, new(*occ.RetryError))
				}
			})
		}
	}
	t.Run("rows left open", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
			if st.Step == fakepg.Sync || st.SQL == "rollback" {
				<-release
			}
			return fakepg.Reply{}
		})
		t.Cleanup(func() { close(release) })
		err := occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error {
			_, err := tx.QueryContext(unbounded, selectN, 1)
			return err
		}, occ.WithMaxElapsed(50*time.Millisecond))
		require.Error(t, err)
		require.Zero(t, s.Count(commit))
	})
}

func TestPoolThatIsUsedUpIsNamedAsTheCause(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	err := occ.RunTx(t.Context(), s.pool, func(pgx.Tx) error {
		return occ.RunTx(t.Context(), s.pool, func(pgx.Tx) error { return nil }, occ.WithMaxElapsed(50*time.Millisecond))
	})
	require.ErrorAs(t, err, new(*occ.RetryError))
	require.ErrorContains(t, err, "all 1 connections of the pool are in use; a callback that uses the pool instead of its transaction waits for itself")
}

func TestCauseOfTheContextIsKept(t *testing.T) {
	t.Parallel()
	cause := errors.New("the client has gone")
	s := startSQL(t)
	for name, run := range map[string]func(ctx context.Context, end func()) error{
		"before": func(ctx context.Context, end func()) error {
			end()
			return occ.RunTx(ctx, s.pool, func(pgx.Tx) error { return nil })
		},
		"in the callback": func(ctx context.Context, end func()) error {
			return occ.RunTx(ctx, s.pool, func(pgx.Tx) error { end(); return nil })
		},
		"in a statement": func(ctx context.Context, end func()) error {
			return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error { end(); return update(ctx, tx) })
		},
		"in database/sql": func(ctx context.Context, end func()) error {
			return occ.RunSQLTx(ctx, openSQL(t, s), func(*sql.Tx) error { end(); return nil })
		},
		"while waiting": func(ctx context.Context, end func()) error {
			return occ.Retry(ctx, func(context.Context) error { time.AfterFunc(time.Millisecond, end); return fakepg.Conflict() },
				occ.WithBackoff(time.Minute, time.Minute))
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		err := run(ctx, func() { cancel(cause) })
		require.ErrorIs(t, err, context.Canceled, name)
		require.ErrorIs(t, err, cause, name)
	}
}

// The context ends at any time: its error is in the chain whenever it is the reason.
func TestEndOfTheContextIsInTheError(t *testing.T) {
	t.Parallel()
	rows := &fakepg.Rows{}
	s := startSQL(t, rows.Answer)
	for i := range 300 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
		err := occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error { return update(ctx, tx) })
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		cancel()
	}
}

func TestNilsAreRefused(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	var pool *pgxpool.Pool
	var conn *pgx.Conn
	ctx := t.Context()
	fn := func(pgx.Tx) error { return nil }
	for name, err := range map[string]error{
		"RunTx, pool":         occ.RunTx(ctx, pool, fn),
		"RunTx, connection":   occ.RunTx(ctx, conn, fn),
		"RunTx, nothing":      occ.RunTx(ctx, nil, fn),
		"RunTx, callback":     occ.RunTx(ctx, s.pool, nil),
		"RunTx, option":       occ.RunTx(ctx, s.pool, fn, nil),
		"RunSQLTx, pool":      occ.RunSQLTx(ctx, nil, func(*sql.Tx) error { return nil }),
		"RunSQLTx, callback":  occ.RunSQLTx(ctx, openSQL(t, s), nil),
		"Retry, callback":     occ.Retry(ctx, nil),
		"RunBatch, pool":      occ.RunBatch(ctx, pool, func(*pgx.Batch) error { return nil }),
		"RunBatch, callback":  occ.RunBatch(ctx, s.pool, nil),
		"RunTxOf, begin":      occ.RunTxOf(ctx, nil, func(*sql.Tx) error { return nil }),
		"RunTxValue, nothing": func() error { _, err := occ.RunTxValue[int](ctx, s.pool, nil); return err }(),
	} {
		require.ErrorContains(t, err, "occ: ", name)
		require.ErrorContains(t, err, "nil", name)
	}
	require.Zero(t, s.Sessions())
}

func TestWakingUpOnTheFirstStatementIsRetried(t *testing.T) {
	t.Parallel()
	waking := failing("XX000", "unable to accept connection, waking up cluster, please retry later")
	s := startSQL(t, first(2, fakepg.Execute, "update", waking))
	require.NoError(t, occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error { return update(t.Context(), tx) }))
	calls := 0
	require.NoError(t, occ.Retry(t.Context(), func(context.Context) error {
		if calls++; calls == 1 {
			return waking.Err
		}
		return nil
	}))
}

// A statement that was prepared by name stays stale on its connection.
func TestStatementsPreparedByNameHeal(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"0A000", "26000"} {
		s := startSQL(t)
		stale := 1
		answers := &fakepg.SQL{Answer: func(st fakepg.Statement) fakepg.Reply {
			if st.Step == fakepg.Bind && st.Session == stale {
				return failing(code, "cached plan must not change result type")
			}
			return fakepg.Reply{}
		}}
		server := fakepg.Start(t, fakepg.Hooks{Session: answers.Session})
		config := s.pool.Config()
		config.ConnConfig.Port, config.ConnConfig.Host = port(t, server.Addr), "127.0.0.1"
		config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Prepare(ctx, "add", updateN)
			return err
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		defer pool.Close()
		var seen events
		require.NoError(t, occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "add", 1)
			return err
		}, seen.option()))
		require.Len(t, seen.all, 2)
		require.Equal(t, 2, answers.Sessions())
	}
}
