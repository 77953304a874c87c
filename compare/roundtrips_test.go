package compare

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/aurora-dsql-connectors/go/pgx/occretry"
	"github.com/cockroachdb/cockroach-go/v2/crdb"
	crdbpgx "github.com/cockroachdb/cockroach-go/v2/crdb/crdbpgxv5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

const updateN = "update t set n = n + 1 where id = $1"

// updates returns a callback that sends n statements, one after another.
func updates(ctx context.Context, n int) func(pgx.Tx) error {
	return func(tx pgx.Tx) error {
		for range n {
			if _, err := tx.Exec(ctx, updateN, 1); err != nil {
				return err
			}
		}
		return nil
	}
}

func queue(b *pgx.Batch, n int) {
	for range n {
		b.Queue(updateN, 1)
	}
}

// ways are the ways to run a transaction, in the order of the table in docs/performance.md. Each
// statement takes a round trip, or as many as describing takes; fixed ones come on top.
var ways = []struct {
	by, row   string
	mode      pgx.QueryExecMode // the pool's for the benchmark
	fixed     int               // round trips for BEGIN, COMMIT and what else there is
	statement bool              // whether each statement takes a round trip of its own
	run       func(ctx context.Context, pool *pgxpool.Pool, n int) error
}{
	{"BeginFunc", "`pgx.BeginFunc`", cached, 2, true, func(ctx context.Context, pool *pgxpool.Pool, n int) error {
		return pgx.BeginFunc(ctx, pool, updates(ctx, n))
	}},
	{"crdbpgx", "`crdbpgx.ExecuteTx`", cached, 4, true, func(ctx context.Context, pool *pgxpool.Pool, n int) error {
		return crdbpgx.ExecuteTx(ctx, pool, pgx.TxOptions{}, updates(ctx, n))
	}},
	{"occretry", "AWS's `occretry.WithRetry`", cached, 2, true, withRetry},
	{"occretry-describe-exec", "", pgx.QueryExecModeDescribeExec, 2, true, withRetry},
	{"RunTx", "`RunTx` on a pool", cached, 1, true, func(ctx context.Context, pool *pgxpool.Pool, n int) error {
		return occ.RunTx(ctx, pool, updates(ctx, n))
	}},
	{"RunTx-SendBatch", "`RunTx` with one `SendBatch`", cached, 1, false, func(ctx context.Context, pool *pgxpool.Pool, n int) error {
		return occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
			var b pgx.Batch
			queue(&b, n)
			return tx.SendBatch(ctx, &b).Close()
		})
	}},
	{"RunBatch", "`RunBatch`", cached, 0, false, func(ctx context.Context, pool *pgxpool.Pool, n int) error {
		return occ.RunBatch(ctx, pool, func(b *pgx.Batch) error { queue(b, n); return nil })
	}},
}

const cached = pgx.QueryExecModeCacheStatement

func withRetry(ctx context.Context, pool *pgxpool.Pool, n int) error {
	return occretry.WithRetry(ctx, pool, occretry.DefaultConfig(), updates(ctx, n))
}

// openScripted opens a pool of one connection on a scripted server.
func openScripted(tb testing.TB, mode pgx.QueryExecMode, hooks fakepg.Hooks) (*fakepg.Server, *pgxpool.Pool) {
	server := fakepg.Start(tb, hooks)
	config, err := pgxpool.ParseConfig(fmt.Sprintf("postgres://u:p@%s/db?sslmode=disable&pool_max_conns=1", server.Addr))
	require.NoError(tb, err)
	config.ConnConfig.DefaultQueryExecMode = mode
	pool, err := pgxpool.NewWithConfig(tb.Context(), config)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return server, pool
}

// The table in docs/performance.md has these numbers, once the connection has prepared the statements.
func TestRoundTrips(t *testing.T) {
	docs, err := os.ReadFile("../docs/performance.md")
	require.NoError(t, err)
	formula := func(each, fixed int, statement bool) string {
		switch {
		case !statement:
			return fmt.Sprint(each + fixed)
		case each == 1:
			return fmt.Sprintf("n + %d", fixed)
		}
		return fmt.Sprintf("%dn + %d", each, fixed)
	}
	for _, way := range ways {
		t.Run(way.by, func(t *testing.T) {
			for each, mode := range map[int]pgx.QueryExecMode{1: cached, 2: pgx.QueryExecModeDescribeExec} {
				server, pool := openScripted(t, mode, fakepg.Hooks{Session: new(fakepg.SQL).Session})
				for n := 1; n <= 5; n++ {
					require.NoError(t, way.run(t.Context(), pool, n)) // prepares
					before := server.Trips()
					require.NoError(t, way.run(t.Context(), pool, n))
					want := each + way.fixed
					if way.statement {
						want = n*each + way.fixed
					}
					require.Equal(t, want, server.Trips()-before, "%d statements, %v", n, mode)
				}
			}
			if way.row != "" {
				row := fmt.Sprintf("| %s | %s | %s |", way.row, formula(1, way.fixed, way.statement), formula(2, way.fixed, way.statement))
				require.True(t, strings.Contains(string(docs), "\n"+row), "docs/performance.md must have %s", row)
			}
		})
	}
}

// always returns a server on which statements with a prefix conflict, and what it has executed.
func always(conflicting string) (fakepg.Hooks, *fakepg.SQL) {
	sql := &fakepg.SQL{Answer: func(s fakepg.Statement) fakepg.Reply {
		if s.Step == fakepg.Execute && strings.HasPrefix(s.SQL, conflicting) {
			return fakepg.Reply{Err: fakepg.Conflict()}
		}
		return fakepg.Reply{}
	}}
	return fakepg.Hooks{Session: sql.Session}, sql
}

// BenchmarkHotRow in package occ repeats the retry policies of both libraries: these.
func TestRetryPolicies(t *testing.T) {
	t.Run("crdbpgx retries 50 times, without another BEGIN", func(t *testing.T) {
		hooks, sql := always("release")
		_, pool := openScripted(t, cached, hooks)
		var exceeded *crdb.MaxRetriesExceededError
		require.ErrorAs(t, crdbpgx.ExecuteTx(t.Context(), pool, pgx.TxOptions{}, updates(t.Context(), 1)), &exceeded)
		require.Equal(t, 51, sql.Count("update"))
		require.Equal(t, 1, sql.Count("begin"))
	})
	t.Run("crdbpgx commits by RELEASE", func(t *testing.T) {
		hooks, sql := always("none")
		_, pool := openScripted(t, cached, hooks)
		require.NoError(t, crdbpgx.ExecuteTx(t.Context(), pool, pgx.TxOptions{}, updates(t.Context(), 1)))
		for _, statement := range []string{"begin", "savepoint cockroach_restart", "release savepoint cockroach_restart", "commit"} {
			require.Equal(t, 1, sql.Count(statement), statement)
		}
	})
	t.Run("occretry retries 3 times from 100 ms", func(t *testing.T) {
		hooks, sql := always("commit")
		_, pool := openScripted(t, cached, hooks)
		start := time.Now()
		require.ErrorContains(t, withRetry(t.Context(), pool, 1), "max retries (3) exceeded")
		require.GreaterOrEqual(t, time.Since(start), 700*time.Millisecond)
		require.Equal(t, 4, sql.Count("begin"))
	})
}

// DSQL has no savepoints, so crdbpgx does not run on it.
func TestCrdbpgxNeedsSavepoints(t *testing.T) {
	c := dsqltest.Start(t)
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	defer pool.Close()
	var refused *pgconn.PgError
	require.ErrorAs(t, crdbpgx.ExecuteTx(t.Context(), pool, pgx.TxOptions{}, func(pgx.Tx) error { return nil }), &refused)
	require.Equal(t, "unsupported transaction statement: SAVEPOINT", refused.Message)
	require.NoError(t, occ.RunTx(t.Context(), pool, func(pgx.Tx) error { return nil }))
}

// BenchmarkTransaction shows what round trips cost at a distance. Run it with -benchtime 2x.
func BenchmarkTransaction(b *testing.B) {
	for _, trip := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 60 * time.Millisecond} {
		for _, n := range []int{1, 3} {
			for _, way := range ways {
				b.Run(fmt.Sprintf("trip=%v/statements=%d/by=%s", trip, n, way.by), func(b *testing.B) {
					_, pool := openScripted(b, way.mode, fakepg.Hooks{Session: new(fakepg.SQL).Session, Latency: trip})
					require.NoError(b, way.run(b.Context(), pool, n)) // prepares
					for b.Loop() {
						require.NoError(b, way.run(b.Context(), pool, n))
					}
				})
			}
		}
	}
}

// BenchmarkAllocations shows what the client allocates for a transaction of one statement. The
// server does not allocate; it knows no transactions without BEGIN, so RunBatch is not among them.
func BenchmarkAllocations(b *testing.B) {
	for _, way := range ways {
		if way.fixed == 0 {
			continue
		}
		b.Run("by="+way.by, func(b *testing.B) {
			_, pool := openScripted(b, way.mode, fakepg.Hooks{Session: fakepg.Lean})
			require.NoError(b, way.run(b.Context(), pool, 1))
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, way.run(b.Context(), pool, 1))
			}
		})
	}
}
