package occ_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// runners run fn's one update in a transaction, each through another client.
var runners = []struct {
	name string
	run  func(t *testing.T, ctx context.Context, s *scripted, before func(ctx context.Context)) error
}{
	{"extended", func(t *testing.T, ctx context.Context, s *scripted, before func(context.Context)) error {
		return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, updateN, pgx.QueryExecModeExec, 1)
			before(ctx)
			return err
		}, quick())
	}},
	{"simple", func(t *testing.T, ctx context.Context, s *scripted, before func(context.Context)) error {
		return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, updateN, pgx.QueryExecModeSimpleProtocol, 1)
			before(ctx)
			return err
		}, quick())
	}},
	{"database/sql", func(t *testing.T, ctx context.Context, s *scripted, before func(context.Context)) error {
		db := openSQL(t, s)
		return occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, updateN, 1)
			before(ctx)
			return err
		}, quick())
	}},
}

func openSQL(t *testing.T, s *scripted) *sql.DB {
	t.Helper()
	db := stdlib.OpenDB(*s.pool.Config().ConnConfig)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestUnknownOutcomeOfCommit(t *testing.T) {
	t.Parallel()
	for _, runner := range runners {
		for _, test := range []struct {
			name  string
			reply fakepg.Reply
		}{
			{"cut", fakepg.Reply{Cut: true}},
			{"XX000", failing("XX000", "server unavailable")},
			{"08006", failing("08006", "connection failure")},
			{"57P01", failing("57P01", "terminating connection due to administrator command")},
			{"57P01, fatal", fakepg.Reply{Err: &pgconn.PgError{Severity: "FATAL", Code: "57P01", Message: "terminating connection"}}},
			{"40003", failing("40003", "statement completion unknown")},
			{"57014", failing("57014", "canceling statement due to user request")},
			{"58030", failing("58030", "could not write file")},
		} {
			t.Run(runner.name+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				rows := &fakepg.Rows{}
				s := startSQL(t, applied(rows, test.reply))
				calls := 0
				err := runner.run(t, t.Context(), s, func(context.Context) { calls++ })
				var unknown *occ.CommitUnknownError
				require.ErrorAs(t, err, &unknown)
				if test.reply.Err != nil {
					var pg *pgconn.PgError
					require.ErrorAs(t, err, &pg)
					require.Equal(t, test.reply.Err.Code, pg.Code)
				}
				require.Equal(t, 1, calls)
				require.Equal(t, 1, s.Count("begin"))
				require.Equal(t, 1, s.Count(commit))
				require.EqualValues(t, 1, rows.Value(1), "it was applied, once")
			})
		}
	}
}

// applied answers as rows do, and COMMIT with reply after applying it.
func applied(rows *fakepg.Rows, reply fakepg.Reply) answer {
	return func(s fakepg.Statement) fakepg.Reply {
		got := rows.Answer(s)
		if s.SQL == commit {
			return reply
		}
		return got
	}
}

func TestDefiniteOutcomeOfCommit(t *testing.T) {
	t.Parallel()
	for _, runner := range runners {
		t.Run(runner.name+"/conflict", func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(2, fakepg.Execute, commit, conflict()))
			calls := 0
			require.NoError(t, runner.run(t, t.Context(), s, func(context.Context) { calls++ }))
			require.Equal(t, 3, calls)
			require.Equal(t, 1, s.Sessions(), "the connection is kept")
		})
		for _, state := range []string{"23505", "23503", "54000", "25P02", "53200"} {
			t.Run(runner.name+"/"+state, func(t *testing.T) {
				t.Parallel()
				s := startSQL(t, first(1, fakepg.Execute, commit, failing(state, "no")))
				calls := 0
				err := runner.run(t, t.Context(), s, func(context.Context) { calls++ })
				require.EqualError(t, err, "occ: commit: ERROR: no (SQLSTATE "+state+")")
				require.Equal(t, 1, calls)
				require.Zero(t, s.Count("rollback"))
			})
		}
	}
}

func TestConnectionLostBeforeCommitIsRetried(t *testing.T) {
	t.Parallel()
	for _, runner := range runners {
		t.Run(runner.name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(1, fakepg.Execute, "update", fakepg.Reply{Cut: true}))
			calls := 0
			require.NoError(t, runner.run(t, t.Context(), s, func(context.Context) { calls++ }))
			require.Equal(t, 2, calls)
			require.Equal(t, 2, s.Sessions())
			require.Equal(t, 1, s.Count(commit))
		})
	}
	t.Run("error swallowed", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t, first(1, fakepg.Execute, "update", fakepg.Reply{Cut: true}))
		calls := 0
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			calls++
			_ = update(t.Context(), tx)
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, 2, calls)
		require.Equal(t, 1, s.Count(commit))
	})
	t.Run("server unavailable", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t, first(1, fakepg.Execute, "update", failing("XX000", "server unavailable")))
		require.NoError(t, occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error { return update(t.Context(), tx) }))
		require.Equal(t, 2, s.Count("update"))
		s.kept(t)
	})
	t.Run("shut down", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t, first(1, fakepg.Execute, "update", fakepg.Reply{Err: &pgconn.PgError{Severity: "FATAL", Code: "57P01", Message: "terminating connection"}}))
		require.NoError(t, occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error { return update(t.Context(), tx) }))
		require.Equal(t, 2, s.Count("update"))
	})
	t.Run("on a single connection", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t, first(1, fakepg.Execute, "update", fakepg.Reply{Cut: true}))
		conn := s.connect(t)
		run := func() error {
			return occ.RunTx(t.Context(), conn, func(tx pgx.Tx) error { return update(t.Context(), tx) })
		}
		require.ErrorIs(t, run(), io.ErrUnexpectedEOF, "there is nothing to begin again on")
		require.ErrorIs(t, run(), pgconn.ErrConnClosed)
		require.Equal(t, 1, s.Count("begin"))
	})
}

// A network that does not take COMMIT has not sent it.
func TestCommitThatCouldNotBeWrittenIsRetried(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	config := s.pool.Config()
	config.MaxConns = 1
	wires := make(chan *breakable, 10)
	config.ConnConfig.DialFunc = dialBreakable(wires)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	calls := 0
	err = occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
		if calls++; calls == 1 {
			(<-wires).broken.Store(true)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, calls)
	require.Equal(t, 1, s.Count(commit))
}

func TestContextAroundCommit(t *testing.T) {
	t.Parallel()
	for _, runner := range runners {
		t.Run(runner.name+"/ends before", func(t *testing.T) {
			t.Parallel()
			s := startSQL(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := runner.run(t, ctx, s, func(context.Context) { cancel() })
			require.EqualError(t, err, "occ: not committed: context canceled")
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, 1, s.Count("rollback"))
			require.Zero(t, s.Count(commit))
			require.Equal(t, 1, s.Sessions())
		})
		for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
			t.Run(fmt.Sprint(runner.name, "/while waiting/", cause), func(t *testing.T) {
				t.Parallel()
				ctx := newEndable(t.Context())
				release := make(chan struct{})
				s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
					if st.SQL == commit {
						ctx.end(cause)
						<-release
					}
					return fakepg.Reply{}
				})
				t.Cleanup(func() { close(release) })
				calls := 0
				err := runner.run(t, ctx, s, func(context.Context) { calls++ })
				var unknown *occ.CommitUnknownError
				require.ErrorAs(t, err, &unknown)
				require.ErrorIs(t, err, cause)
				require.Equal(t, 1, calls)
				require.Equal(t, 1, s.Count(commit))
			})
		}
	}
}
