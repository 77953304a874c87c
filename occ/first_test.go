package occ_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// TestFirstStatementFailsAsAfterBegin has the first statement fail at each step, and compares what
// the callback and the caller see with RunTx on a pool whose tracer has BEGIN sent separately.
func TestFirstStatementFailsAsAfterBegin(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		for name, statement := range firstStatements {
			if mode != pgx.QueryExecModeCacheStatement && !slices.Contains(shapes, name) {
				continue
			}
			for _, step := range []fakepg.Step{fakepg.Parse, fakepg.Bind, fakepg.Execute} {
				for _, err := range []*pgconn.PgError{
					pgError("42P01", `relation "t" does not exist`),
					pgError("23505", "duplicate key"),
					pgError("40001", dataMessage),
					pgError("40001", schemaMessage),
					pgError("0A000", "cached plan must not change result type"),
					pgError("26000", "prepared statement does not exist"),
					pgError("XX000", "server unavailable"),
					{Severity: "FATAL", Code: "57P01", Message: "terminating connection"},
				} {
					t.Run(fmt.Sprintf("%s/%s/%s/%s %s", mode, name, step, err.Code, err.Message), func(t *testing.T) {
						t.Parallel()
						require.Equal(t, failFirst(t, mode, statement, step, err, true), failFirst(t, mode, statement, step, err, false))
					})
				}
			}
		}
	}
}

// told has the errors of a callback and its caller when a first statement has failed once.
type told struct {
	first, final   string
	calls, retries int
	applied        int
}

func failFirst(t *testing.T, mode pgx.QueryExecMode, statement func(context.Context, pgx.Tx) error, step fakepg.Step, err *pgconn.PgError, alone bool) told {
	var armed atomic.Bool
	fatal := err.Severity == "FATAL"
	s := startSQLMode(t, mode, func(st fakepg.Statement) fakepg.Reply {
		if armed.Load() && st.Step == step && st.SQL != "begin" && st.SQL != commit && st.SQL != "rollback" {
			return fakepg.Reply{Err: err, CutAfter: fatal && step == fakepg.Execute, Cut: fatal && step != fakepg.Execute}
		}
		return fakepg.Reply{}
	})
	config := s.pool.Config()
	if alone {
		config.ConnConfig.Tracer = &spans{}
	}
	pool, poolErr := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, poolErr)
	defer pool.Close()
	var got told
	var seen events
	conn, poolErr := pool.Acquire(t.Context())
	require.NoError(t, poolErr)
	conn.Release()
	armed.Store(true)
	final := occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
		got.calls++
		first := statement(t.Context(), tx)
		armed.Store(false)
		if first != nil {
			require.Error(t, update(t.Context(), tx), "the transaction has failed")
		}
		if first != nil && !fatal {
			got.first = first.Error()
			require.ErrorAs(t, first, new(*pgconn.PgError))
		}
		return first
	}, quick(), seen.option())
	if !fatal {
		got.final = fmt.Sprint(final)
	}
	got.retries = len(seen.all)
	got.applied = s.Count(commit)
	return got
}

// An error of BEGIN itself is retried, or reported, as one of a BEGIN that is sent separately.
func TestBeginFailsWithItsFirstStatement(t *testing.T) {
	t.Parallel()
	begins := func(times int, step fakepg.Step, reply fakepg.Reply) answer {
		return first(times, step, "begin", reply)
	}
	for _, mode := range modes {
		for _, name := range shapes {
			statement := firstStatements[name]
			t.Run(fmt.Sprint(mode, "/", name), func(t *testing.T) {
				t.Parallel()
				run := func(a answer, opts ...occ.RetryOption) (*scripted, *events, error) {
					s, seen := startSQLMode(t, mode, a), &events{}
					err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error { return statement(t.Context(), tx) }, append(opts, quick(), seen.option())...)
					return s, seen, err
				}
				for _, err := range []*pgconn.PgError{
					pgError("40001", dataMessage), pgError("40001", schemaMessage), pgError("XX000", "server unavailable"),
					pgError("XX000", "unable to accept connection, waking up cluster, please retry later"),
				} {
					s, seen, got := run(begins(2, fakepg.Execute, fakepg.Reply{Err: err}))
					require.NoError(t, got)
					require.Len(t, seen.all, 2)
					require.ErrorContains(t, seen.all[0].Err, "occ: begin: ")
					require.Equal(t, 3, s.Count("begin"))
					require.Zero(t, s.Count("rollback"))
					require.Equal(t, 1, s.Count(commit))
					s.kept(t)
				}
				for _, reply := range []fakepg.Reply{{Cut: true}, {CutAfter: true}, {Err: pgError("57P01", "terminating"), CutAfter: true}} {
					s, seen, got := run(begins(1, fakepg.Execute, reply))
					require.NoError(t, got)
					require.Len(t, seen.all, 1)
					require.Equal(t, 2, s.Sessions())
					require.Equal(t, 1, s.Count(commit))
				}
				s, seen, got := run(begins(100, fakepg.Execute, failing("0A000", "Unsupported isolation level: SERIALIZABLE")))
				require.EqualError(t, got, "occ: begin: ERROR: Unsupported isolation level: SERIALIZABLE (SQLSTATE 0A000)")
				require.Empty(t, seen.all)
				require.Zero(t, s.Count("update"))
				s.kept(t)

				_, seen, got = run(begins(100, fakepg.Execute, failing("XX000", "server unavailable")), occ.WithMaxAttempts(3))
				require.EqualError(t, seen.all[0].Err, "occ: begin: ERROR: server unavailable (SQLSTATE XX000)")
				require.ErrorAs(t, got, new(*occ.RetryError))
				require.Len(t, seen.all, 2)
			})
		}
	}
	t.Run("prepared BEGIN is stale", func(t *testing.T) {
		t.Parallel()
		for _, code := range []string{"26000", "0A000"} {
			s := startSQL(t, begins(1, fakepg.Bind, failing(code, "cached plan must not change result type")))
			calls := 0
			for range 2 {
				require.NoError(t, occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error { calls++; return update(t.Context(), tx) }))
			}
			require.Equal(t, 2, calls, "it begins without it")
			s.kept(t)
		}
	})
}

// The position in an error counts from the start of the statement, without BEGIN before it.
func TestErrorPositionIsInTheStatement(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode   pgx.QueryExecMode
		name   string
		before string // in the text that the server parses
	}{
		{pgx.QueryExecModeCacheStatement, "Exec", ""},
		{pgx.QueryExecModeCacheStatement, "QueryRow", ""},
		{pgx.QueryExecModeCacheStatement, "Exec without arguments", "begin;"},
		{pgx.QueryExecModeSimpleProtocol, "Exec", "begin\n;"},
		{pgx.QueryExecModeSimpleProtocol, "QueryRow", "begin\n;"},
		{pgx.QueryExecModeSimpleProtocol, "Query", "begin\n;"},
		{pgx.QueryExecModeSimpleProtocol, "SendBatch", "begin\n;"},
	} {
		s := startSQLMode(t, test.mode, func(st fakepg.Statement) fakepg.Reply {
			if st.Step == fakepg.Execute && st.SQL != "begin" && st.SQL != "rollback" {
				return fakepg.Reply{Err: &pgconn.PgError{Code: "42703", Message: "no such column", Position: int32(len(test.before)) + 8}}
			}
			return fakepg.Reply{}
		})
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error { return firstStatements[test.name](t.Context(), tx) })
		var pgErr *pgconn.PgError
		require.ErrorAs(t, err, &pgErr)
		require.EqualValues(t, 8, pgErr.Position, "%v %s", test.mode, test.name)
	}
}

// Only the first statement is in one text with BEGIN.
func TestErrorPositionOfLaterStatements(t *testing.T) {
	t.Parallel()
	for name, statement := range firstStatements {
		s := startSQLMode(t, pgx.QueryExecModeSimpleProtocol, first(1, fakepg.Execute, "delete",
			fakepg.Reply{Err: &pgconn.PgError{Code: "42703", Message: "no such column", Position: 8}}))
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			require.NoError(t, statement(t.Context(), tx), name)
			_, err := tx.Exec(t.Context(), "delete from t where id = $1", 1)
			return err
		})
		var pgErr *pgconn.PgError
		require.ErrorAs(t, err, &pgErr, name)
		require.EqualValues(t, 8, pgErr.Position, name)
	}
}

// pgx refuses such a batch in a transaction, and so it stays.
func TestBatchThatBeginsIsRefused(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.BeginTx(pgx.TxOptions{})
		b.Queue(updateN, 1)
		return tx.SendBatch(t.Context(), b).Close()
	})
	require.ErrorContains(t, err, "Batch.BeginTx cannot be used within a transaction")
	require.Equal(t, 1, s.Count("begin"))
	require.Zero(t, s.Count("update"))
	s.kept(t)
}

// A loss of the connection at BEGIN is BEGIN's, whatever the callback makes of its statement's
// error.
func TestConnectionLostAtBegin(t *testing.T) {
	t.Parallel()
	for name, statement := range firstStatements {
		s := startSQL(t, first(1, fakepg.Execute, "begin", fakepg.Reply{Cut: true}))
		var seen events
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			if statement(t.Context(), tx) != nil {
				return errors.New("save failed")
			}
			return nil
		}, quick(), seen.option())
		require.NoError(t, err, name)
		require.Len(t, seen.all, 1, name)
		require.ErrorContains(t, seen.all[0].Err, "occ: begin: ", name)
		require.Equal(t, 1, s.Count(commit), name)
	}
}

// An empty batch holds the connection no more than pgx's does, whether or not it is closed.
func TestEmptyBatchFirst(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	require.NoError(t, occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		tx.SendBatch(t.Context(), &pgx.Batch{})
		return update(t.Context(), tx)
	}))
	require.NoError(t, occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		require.NoError(t, tx.SendBatch(t.Context(), &pgx.Batch{}).Close())
		return update(t.Context(), tx)
	}))
	require.Equal(t, 2, s.Count(commit))
}
