package occ_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// These figures do not depend on the machine: a regression in them fails the tests.

// trips returns the round trips that run takes once its statements have been prepared.
func (s *scripted) trips(t *testing.T, run func() error) int {
	t.Helper()
	require.NoError(t, run())
	return s.coldTrips(t, run)
}

func (s *scripted) coldTrips(t *testing.T, run func() error) int {
	t.Helper()
	conn, err := s.pool.Acquire(t.Context())
	require.NoError(t, err) // connects
	conn.Release()
	before := s.Trips()
	require.NoError(t, run())
	return s.Trips() - before
}

var firstStatements = map[string]func(ctx context.Context, tx pgx.Tx) error{
	"Exec": update,
	"Exec without arguments": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "update t set n = 1 where id = 1")
		return err
	},
	"Exec of several statements": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "update t set n = 1 where id = 1; update t set n = 1 where id = 2")
		return err
	},
	"Exec with named arguments": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "update t set n = n + 1 where id = @id", pgx.NamedArgs{"id": 1})
		return err
	},
	"QueryRow": func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, selectN, 1).Scan(new(int64))
	},
	"QueryRow without arguments": func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "select n from t").Scan(new(int64))
	},
	"Query": func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectN, 1)
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	},
	"SendBatch": func(ctx context.Context, tx pgx.Tx) error {
		b := batch(selectN)
		b.Queue(updateN, 1)
		b.Queue(updateN, 2)
		return tx.SendBatch(ctx, b).Close()
	},
}

// shapes are those that take different paths.
var shapes = []string{"Exec", "Exec without arguments", "Query", "SendBatch"}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, mode := range modes {
		each := 1 // statement
		if mode == pgx.QueryExecModeDescribeExec {
			each = 2
		}
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := startSQLMode(t, mode)
			for n := 1; n <= 5; n++ {
				fn := func(tx pgx.Tx) error {
					for range n {
						if err := update(ctx, tx); err != nil {
							return err
						}
					}
					return nil
				}
				require.Equal(t, each*n+1, s.trips(t, func() error { return occ.RunTx(ctx, s.pool, fn) }), "RunTx, %d statements", n)
				require.Equal(t, each*n+2, s.trips(t, func() error { return pgx.BeginFunc(ctx, s.pool, fn) }), "BeginFunc, %d statements", n)
				require.Equal(t, each*n+1, s.trips(t, func() error {
					_, err := occ.RunTxValue(ctx, s.pool, func(tx pgx.Tx) (int, error) { return 1, fn(tx) }, occ.WithTxOptions(repeatableRead))
					return err
				}), "RunTxValue, %d statements", n)
				require.Equal(t, each, s.trips(t, func() error {
					return occ.RunBatch(ctx, s.pool, func(b *pgx.Batch) error {
						for range n {
							b.Queue(updateN, 1)
						}
						return nil
					})
				}), "RunBatch, %d statements", n)
			}
		})
	}
}

func TestBeginTravelsWithEveryFirstStatement(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, mode := range modes {
		for name, statement := range firstStatements {
			t.Run(fmt.Sprint(mode, "/", name), func(t *testing.T) {
				t.Parallel()
				s := startSQLMode(t, mode)
				with := s.trips(t, func() error { return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error { return statement(ctx, tx) }) })
				without := s.trips(t, func() error { return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return statement(ctx, tx) }) })
				require.Equal(t, without-1, with)
				require.Equal(t, 4, s.Count("begin"))
				require.Equal(t, 4, s.Count(commit))
			})
		}
	}
}

func TestBeginIsPreparedOnce(t *testing.T) {
	t.Parallel()
	begins := 0
	s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
		if st.Step == fakepg.Parse && st.SQL == "begin" {
			begins++
		}
		return fakepg.Reply{}
	})
	run := func() error {
		return occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error { return update(t.Context(), tx) })
	}
	require.Equal(t, 3, s.coldTrips(t, run), "both are prepared in one round trip")
	for range 10 {
		require.Equal(t, 2, s.coldTrips(t, run))
	}
	require.Equal(t, 1, begins)
}

// aloneStatements cannot travel with BEGIN.
var aloneStatements = map[string]func(ctx context.Context, tx pgx.Tx) error{
	"Conn": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Conn().Exec(ctx, updateN, 1)
		return err
	},
	"LargeObjects": func(ctx context.Context, tx pgx.Tx) error {
		objects := tx.LargeObjects()
		return objects.Unlink(ctx, 1)
	},
	"CopyFrom": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{int64(1)}}))
		return err
	},
	"Prepare": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Prepare(ctx, "name", updateN)
		return err
	},
	"mode": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, updateN, pgx.QueryExecModeExec, 1)
		return err
	},
	"formats": func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, selectN, pgx.QueryResultFormats{0}, 1).Scan(new(int64))
	},
	"formats by OID": func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, selectN, pgx.QueryResultFormatsByOID{20: 0}, 1).Scan(new(int64))
	},
	"rewriter": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "add", rewriter{}, 1)
		return err
	},
	"rewriter in a batch": func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("add", rewriter{}, 1)
		return tx.SendBatch(ctx, b).Close()
	},
	"empty batch": func(ctx context.Context, tx pgx.Tx) error {
		return tx.SendBatch(ctx, &pgx.Batch{}).Close()
	},
	"nothing": func(context.Context, pgx.Tx) error { return nil },
}

// rewriter is a rewriter that uses the connection.
type rewriter struct{}

func (rewriter) RewriteQuery(ctx context.Context, conn *pgx.Conn, _ string, args []any) (string, []any, error) {
	_, err := conn.Exec(ctx, updateN, 1)
	return updateN, args, err
}

// What cannot travel with BEGIN is still in the transaction.
func TestWhatCannotTravelBeginsFirst(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, statement := range aloneStatements {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
				if st.Step == fakepg.Execute && !st.InTx && st.SQL != "begin" && strings.Contains(st.SQL, " ") {
					t.Errorf("%s is outside of the transaction", st.SQL)
				}
				if strings.Contains(st.SQL, "lo_unlink") {
					return fakepg.Reply{Rows: [][]int64{{1}}}
				}
				return fakepg.Reply{}
			})
			with := s.trips(t, func() error { return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error { return statement(ctx, tx) }) })
			without := s.trips(t, func() error { return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return statement(ctx, tx) }) })
			if name != "CopyFrom" { // its data may arrive in pieces
				require.Equal(t, without, with)
			}
			s.kept(t)
		})
	}
}

// On a connection of its own the callback may send statements past the transaction that it is given.
func TestOwnConnectionBeginsFirst(t *testing.T) {
	t.Parallel()
	var outside atomic.Int64 // updates that were not in a transaction
	s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
		if st.Step == fakepg.Execute && st.SQL == updateN && !st.InTx {
			outside.Add(1)
		}
		return fakepg.Reply{}
	})
	conn := s.connect(t)
	acquired, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer acquired.Release()
	for _, run := range []func() error{
		func() error {
			return occ.RunTx(t.Context(), conn, func(pgx.Tx) error { _, err := conn.Exec(t.Context(), updateN, 1); return err })
		},
		func() error {
			return occ.RunTx(t.Context(), acquired, func(pgx.Tx) error { _, err := acquired.Exec(t.Context(), updateN, 1); return err })
		},
	} {
		require.NoError(t, run())
		before := s.Trips()
		require.NoError(t, run())
		require.Equal(t, 3, s.Trips()-before)
	}
	require.Equal(t, 4, s.Count("begin"))
	require.Zero(t, outside.Load())
}

// spans is a tracer with every interface of pgx's.
type spans struct{ seen []string }

func (s *spans) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.seen = append(s.seen, "start "+data.SQL)
	return ctx
}

func (s *spans) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	s.seen = append(s.seen, fmt.Sprint("end ", data.CommandTag, " ", data.Err))
}

func (s *spans) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.seen = append(s.seen, "batch")
	return ctx
}
func (s *spans) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *spans) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func TestTracerSeesEveryStatement(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	config := s.pool.Config()
	tracer := &spans{}
	config.ConnConfig.Tracer = tracer
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	fn := func(tx pgx.Tx) error { return update(t.Context(), tx) }
	require.NoError(t, occ.RunTx(t.Context(), pool, fn))
	ours := tracer.seen
	tracer.seen = nil
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, fn))
	require.Equal(t, tracer.seen[:len(ours)], ours) // pgx's has a rollback of the closed transaction behind it
	require.Equal(t, []string{"start begin", "end BEGIN <nil>", "start " + updateN, "end UPDATE 1 <nil>", "start commit", "end COMMIT <nil>"}, ours)
}

// pgx's batch, in which BEGIN travels with a statement that has arguments, takes 19 allocations:
// docs/performance.md says where the others are.
func TestAllocations(t *testing.T) {
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	simple := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "update t set n = 1 where id = 1")
		return err
	}
	for _, test := range []struct {
		name      string
		ctx       context.Context
		allowance float64
		fn        func(ctx context.Context, tx pgx.Tx) error
	}{
		{"batch", t.Context(), -2 + 19, update},
		{"batch, deadline", soon, -7 + 19, update},
		{"simple protocol", t.Context(), 0, simple},
		{"simple protocol, deadline", soon, -5, simple},
	} {
		begin, run := leanTransactions(t, test.ctx, test.fn)
		plain, retried := testing.AllocsPerRun(200, begin), testing.AllocsPerRun(200, run)
		t.Logf("%s: BeginFunc %v, RunTx %v", test.name, plain, retried)
		require.LessOrEqual(t, retried, plain+test.allowance, test.name)
	}
}

// leanTransactions returns ways to run a transaction on a server that does not allocate.
func leanTransactions(tb testing.TB, ctx context.Context, fn func(context.Context, pgx.Tx) error) (begin, run func()) {
	server := fakepg.Start(tb, fakepg.Hooks{Session: fakepg.Lean})
	pool, err := pgxpool.New(tb.Context(), fmt.Sprintf("postgres://u:p@%s/db?sslmode=disable&pool_max_conns=1", server.Addr))
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	tx := func(tx pgx.Tx) error { return fn(ctx, tx) }
	check := func(err error) {
		if err != nil {
			tb.Error(err)
		}
	}
	return func() { check(pgx.BeginFunc(ctx, pool, tx)) }, func() { check(occ.RunTx(ctx, pool, tx)) }
}
