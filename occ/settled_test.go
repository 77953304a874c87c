package occ_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// refusedDial is the error of a lookup whose connection was refused.
func refusedDial(t *testing.T) error {
	t.Helper()
	_, err := pgconn.Connect(t.Context(), "postgres://127.0.0.1:1/?sslmode=disable")
	require.Error(t, err)
	return err
}

func TestSettledOutcomesAreNotRunAgain(t *testing.T) {
	t.Parallel()
	dial := refusedDial(t)
	once := occ.WithMaxAttempts(1) // a second attempt would give up with a RetryError
	for name, err := range map[string]error{
		"unknown, and a dial refused":       errors.Join(&occ.CommitUnknownError{Err: errors.New("cut")}, dial),
		"a dial refused, and unknown":       fmt.Errorf("%w: %w", dial, &occ.CommitUnknownError{Err: errors.New("cut")}),
		"given up for a dial":               &occ.RetryError{Attempts: 4, Err: dial},
		"given up, and a connection limit":  errors.Join(pgError("53300", "too many"), &occ.RetryError{Err: errors.New("x")}),
		"unknown, and waking up":            errors.Join(pgError("XX000", "waking up cluster"), &occ.CommitUnknownError{Err: errors.New("cut")}),
		"unknown, and a lost connection":    errors.Join(pgconn.ErrConnClosed, &occ.CommitUnknownError{Err: errors.New("cut")}),
		"unknown for a conflict, flattened": &occ.CommitUnknownError{Err: pgError("40001", dataMessage)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			require.Equal(t, err, occ.Retry(t.Context(), always(&calls, err), once))
			require.Equal(t, 1, calls)
			calls = 0
			require.Equal(t, err, occ.Retry(t.Context(), always(&calls, err), occ.WithIdempotent(), once))
			require.Equal(t, 1, calls)

			s := startSQL(t, first(1, fakepg.Execute, "update", fakepg.Reply{Cut: true}))
			calls = 0
			got := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				calls++
				_ = update(t.Context(), tx) // the outer connection is lost too
				return err
			}, once)
			require.Equal(t, err, got)
			require.Equal(t, 1, calls)

			calls = 0
			got = occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error { calls++; return err }, once)
			require.Equal(t, err, got)
			require.Equal(t, 1, calls)
		})
	}
}

func TestRetrySaysThatItsLastAttemptMayBeApplied(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := occ.Retry(ctx, func(ctx context.Context) error {
		if calls++; calls == 1 {
			return pgError("40001", dataMessage)
		}
		cancel()
		return fmt.Errorf("timeout: %w", ctx.Err())
	}, quick())
	var gaveUp *occ.RetryError
	require.ErrorAs(t, err, &gaveUp)
	require.True(t, gaveUp.MaybeApplied)
	require.ErrorContains(t, err, "one of which may have been applied")

	err = occ.Retry(t.Context(), always(&calls, pgError("40001", dataMessage)), quick(), occ.WithMaxAttempts(2))
	require.ErrorAs(t, err, &gaveUp)
	require.False(t, gaveUp.MaybeApplied)
}

// ends are the ways in which a callback can end the transaction itself.
var ends = map[string]func(ctx context.Context, tx pgx.Tx) error{
	"Conn.Exec": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Conn().Exec(ctx, "commit"); return err },
	"Conn.Query": func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Conn().Query(ctx, "commit")
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	},
	"Conn.QueryRow": func(ctx context.Context, tx pgx.Tx) error { _ = tx.Conn().QueryRow(ctx, "COMMIT").Scan(); return nil },
	"Conn batch": func(ctx context.Context, tx pgx.Tx) error {
		return tx.Conn().SendBatch(ctx, noArgs("commit")).Close()
	},
	"Conn, commit; begin": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Conn().Exec(ctx, "commit; begin")
		return err
	},
	"Conn, PgConn": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().Exec(ctx, "/* x */ END; begin").ReadAll()
		return err
	},
	"BeginFunc": func(ctx context.Context, tx pgx.Tx) error {
		return pgx.BeginFunc(ctx, tx.Conn(), func(pgx.Tx) error { return nil })
	},
	"Exec": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "commit"); return err },
	"Query": func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "commit")
		rows.Close()
		return err
	},
	"batch": func(ctx context.Context, tx pgx.Tx) error { return tx.SendBatch(ctx, noArgs("commit")).Close() },
	"commit; begin": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "-- done\ncommit; begin; update t set n = n + 1 where id = 2")
		return err
	},
}

func noArgs(sql string) *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(sql)
	return b
}

func TestWhatTheCallbackCommittedIsNotRunAgain(t *testing.T) {
	t.Parallel()
	for name, end := range ends {
		for result, err := range map[string]error{"nil": nil, "conflict": fakepg.Conflict(), "own": errors.New("own")} {
			t.Run(name+"/"+result, func(t *testing.T) {
				t.Parallel()
				rows := &fakepg.Rows{}
				s := startSQL(t, rows.Answer)
				calls := 0
				got := occ.Retry(t.Context(), func(ctx context.Context) error {
					return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error {
						calls++
						require.NoError(t, update(ctx, tx))
						require.NoError(t, end(ctx, tx))
						return err
					}, quick())
				}, quick())
				require.ErrorContains(t, got, "the server has committed it")
				if err != nil {
					require.ErrorIs(t, got, err)
				}
				require.Equal(t, 1, calls)
				require.EqualValues(t, 1, rows.Value(1))
				require.Zero(t, rows.Value(2))
				require.NoError(t, s.pool.Ping(t.Context()))
			})
		}
	}
	t.Run("on the caller's connection", func(t *testing.T) {
		t.Parallel()
		rows := &fakepg.Rows{}
		s := startSQL(t, rows.Answer)
		conn := s.connect(t)
		calls := 0
		err := occ.RunTx(t.Context(), conn, func(tx pgx.Tx) error {
			calls++
			require.NoError(t, update(t.Context(), tx))
			_, err := conn.Exec(t.Context(), "commit; begin")
			require.NoError(t, err)
			return fakepg.Conflict()
		}, quick())
		require.ErrorContains(t, err, "the server has committed it")
		require.Equal(t, 1, calls)
	})
	for _, statement := range []string{"commit", "commit; begin", "end"} {
		for result, err := range map[string]error{"nil": nil, "conflict": fakepg.Conflict()} {
			t.Run("database/sql/"+statement+"/"+result, func(t *testing.T) {
				t.Parallel()
				rows := &fakepg.Rows{}
				s := startSQL(t, rows.Answer)
				calls := 0
				got := occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error {
					calls++
					require.NoError(t, sqlUpdate(t.Context(), tx))
					_, failed := tx.ExecContext(t.Context(), statement)
					require.NoError(t, failed)
					return err
				}, quick())
				require.ErrorContains(t, got, "the server has committed it")
				require.Equal(t, 1, calls)
				require.EqualValues(t, 1, rows.Value(1))
			})
		}
	}
}

// A COMMIT of the callback's that was cut is as unknown as RunTx's own.
func TestCommitOfTheCallbackThatWasCutIsUnknown(t *testing.T) {
	t.Parallel()
	for name, end := range ends {
		if name == "BeginFunc" {
			continue // begins first
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows := &fakepg.Rows{}
			s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
				got := rows.Answer(st)
				got.Cut = st.Step == fakepg.Execute && st.SQL == commit
				return got
			})
			calls := 0
			err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				calls++
				require.NoError(t, update(t.Context(), tx))
				if err := end(t.Context(), tx); err != nil {
					return err
				}
				return pgconn.ErrConnClosed
			}, quick())
			var unknown *occ.CommitUnknownError
			require.ErrorAs(t, err, &unknown)
			require.Equal(t, 1, calls)
		})
	}
}

func TestAnswersBeforeACutSettleCommit(t *testing.T) {
	t.Parallel()
	for _, runner := range runners {
		t.Run(runner.name+"/committed", func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{CutAfter: true, Rows: [][]int64{}}))
			calls := 0
			require.NoError(t, runner.run(t, t.Context(), s, func(context.Context) { calls++ }))
			require.Equal(t, 1, calls)
		})
		if runner.name == "database/sql" {
			continue // pgx's driver forgets the conflict; dsql.OpenDB's does not
		}
		t.Run(runner.name+"/conflict", func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{CutAfter: true, Err: fakepg.Conflict()}))
			calls := 0
			require.NoError(t, runner.run(t, t.Context(), s, func(context.Context) { calls++ }))
			require.Equal(t, 2, calls)
		})
	}
}

func TestReadOnlyTransactionIsRunAgainWhenCommitIsCut(t *testing.T) {
	t.Parallel()
	readOnly := occ.WithTxOptions(pgx.TxOptions{AccessMode: pgx.ReadOnly})
	for name, run := range map[string]func(s *scripted) error{
		"RunTx": func(s *scripted) error {
			return occ.RunTx(t.Context(), s.pool, func(pgx.Tx) error { return nil }, readOnly)
		},
		"RunSQLTx": func(s *scripted) error {
			return occ.RunSQLTx(t.Context(), openSQL(t, s), func(*sql.Tx) error { return nil }, readOnly)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true}))
			require.NoError(t, run(s))
			require.Equal(t, 2, s.Count(commit))
		})
	}
}

// The end of the connection has arrived, but nothing has read it.
func TestConnectionThatEndedBeforeCommitIsNotUnknown(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"in cleartext": false, "in TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := &fakepg.SQL{}
			hooks := fakepg.Hooks{Session: answers.Session}
			mode := "disable"
			if secure {
				cert, _ := fakepg.Certificate(t, "localhost")
				hooks.TLS, mode = &tls.Config{Certificates: []tls.Certificate{cert}}, "require"
			}
			server := fakepg.Start(t, hooks)
			url := fmt.Sprintf("postgres://u:p@%s/db?sslmode=%s", server.Addr, mode)
			calls := 0
			end := func() {
				if calls++; calls == 1 {
					conns := server.Conns()
					require.NoError(t, conns[len(conns)-1].Conn.Close())
					time.Sleep(20 * time.Millisecond)
				}
			}
			pool, err := pgxpool.New(t.Context(), url)
			require.NoError(t, err)
			defer pool.Close()
			require.NoError(t, occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
				err := update(t.Context(), tx)
				end()
				return err
			}, quick()))
			require.Equal(t, 2, calls)
			require.Equal(t, 1, answers.Count(commit))
		})
	}
}
