package occ_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

func TestSerialKeyRunsOneAfterAnotherAfterAConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := occ.WithSerialKey(t.Name())
		var order []string
		running := 0
		work := func(name string) func(context.Context) error {
			return func(context.Context) error {
				running++
				require.Equal(t, 1, running, name)
				time.Sleep(time.Second)
				running--
				order = append(order, name)
				return nil
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			conflicts := 0
			require.NoError(t, occ.Retry(t.Context(), func(ctx context.Context) error {
				if conflicts++; conflicts == 1 {
					return fakepg.Conflict()
				}
				return work("first")(ctx)
			}, key))
		})
		synctest.Wait()
		for _, name := range []string{"second", "third", "fourth"} {
			wg.Go(func() { require.NoError(t, occ.Retry(t.Context(), work(name), key)) })
			synctest.Wait()
		}
		start := time.Now()
		require.NoError(t, occ.Retry(t.Context(), func(context.Context) error { return nil }, occ.WithSerialKey("another")))
		require.Zero(t, time.Since(start), "another key does not wait")
		wg.Wait()
		require.Equal(t, []string{"first", "second", "third", "fourth"}, order)
	})
}

func TestSerialKeyWithoutConflictDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				require.NoError(t, occ.Retry(t.Context(), func(context.Context) error {
					time.Sleep(time.Second)
					return nil
				}, occ.WithSerialKey(t.Name())))
			})
		}
		wg.Wait()
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestSerialKeyWaitingEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := occ.WithSerialKey(t.Name())
		hold := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			calls := 0
			require.PanicsWithValue(t, "given back", func() {
				_ = occ.Retry(t.Context(), func(context.Context) error {
					if calls++; calls == 1 {
						return fakepg.Conflict()
					}
					<-hold
					panic("given back")
				}, key)
			})
		})
		synctest.Wait()
		calls := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := occ.Retry(ctx, always(&calls, nil), key)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))

		err = occ.Retry(t.Context(), always(&calls, nil), key, occ.WithMaxElapsed(time.Minute))
		require.EqualError(t, err, "occ: gave up after 0 attempts in 1m0s: the serial key was not free in time")
		require.Zero(t, calls)

		close(hold)
		require.NoError(t, occ.Retry(t.Context(), always(&calls, nil), key))
		require.Equal(t, 1, calls)
		wg.Wait()
	})
}

// Without a key too, the sum is exact, no matter which transaction wins.
func TestSumOfAHotRowIsExact(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]occ.RetryOption{
		"defaults":   nil,
		"serial key": {occ.WithSerialKey("sum")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows := &fakepg.Rows{}
			s := startSQL(t, rows.Answer)
			pool := wide(t, s, 20)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for range 10 {
						require.NoError(t, occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
							var n int64
							if err := tx.QueryRow(t.Context(), selectN, 1).Scan(&n); err != nil {
								return err
							}
							_, err := tx.Exec(t.Context(), "update t set n = $1 where id = $2", n+1, 1)
							return err
						}, options...))
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, 200, rows.Value(1))
		})
	}
}

// wide is a pool of n connections on s.
func wide(t *testing.T, s *scripted, n int) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), fmt.Sprintf("%s&pool_max_conns=%d", s.url(), n))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestCommitEndsAWaitAfterAConflict(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, commit, conflict()))
	pool := wide(t, s, 2)
	var lost atomic.Bool
	done := make(chan error, 1)
	go func() {
		done <- occ.RunTx(t.Context(), pool, func(pgx.Tx) error { return nil },
			occ.WithBackoff(10*time.Minute, 10*time.Minute), occ.WithMaxElapsed(time.Hour),
			occ.WithOnRetry(func(occ.RetryEvent) { lost.Store(true) }))
	}()
	for {
		select {
		case err := <-done:
			require.NoError(t, err)
			return
		default:
			if lost.Load() {
				require.NoError(t, occ.RunTx(t.Context(), pool, func(pgx.Tx) error { return nil }))
			}
		}
	}
}

// Transactions arrive faster than they can run one at a time, each on a row of its own. One
// conflict makes them queue, and the queue dissolves.
func TestSerialKeyRecoversUnderAnOpenLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const transactions, took = 2000, 6 * time.Millisecond
		latencies := make([]time.Duration, transactions)
		var wg sync.WaitGroup
		for i := range transactions {
			wg.Go(func() {
				conflicts := i == 0
				start := time.Now()
				require.NoError(t, occ.Retry(t.Context(), func(context.Context) error {
					time.Sleep(took)
					if conflicts {
						conflicts = false
						return fakepg.Conflict()
					}
					return nil
				}, occ.WithSerialKey(t.Name())))
				latencies[i] = time.Since(start)
			})
			time.Sleep(3 * time.Millisecond)
		}
		wg.Wait()
		require.Less(t, slices.Max(latencies), time.Second)
		require.Equal(t, took, slices.Max(latencies[transactions/4:]), "no transaction waits any more")
	})
}

// One conflict of many: no transaction without a conflict waits, and the first wait is short.
func TestDelayUnderASerialKeyIsNone(t *testing.T) {
	t.Parallel()
	var seen events
	calls := 0
	require.NoError(t, occ.Retry(t.Context(), func(context.Context) error {
		if calls++; calls == 1 {
			return fakepg.Conflict()
		}
		return nil
	}, occ.WithSerialKey(t.Name()), seen.option()))
	require.Len(t, seen.all, 1)
	require.Zero(t, seen.all[0].Delay)
}

// Serial keys belong to a database handle.
func TestSerialKeysOfTwoDatabasesAreTwo(t *testing.T) {
	t.Parallel()
	a, b := startSQL(t, first(1, fakepg.Execute, commit, conflict())), startSQL(t)
	key := occ.WithSerialKey(strings.Repeat("k", 8))
	calls := 0
	require.NoError(t, occ.RunTx(t.Context(), a.pool, func(pgx.Tx) error {
		if calls++; calls == 2 { // it holds the key of a
			return occ.RunTx(t.Context(), b.pool, func(pgx.Tx) error { return nil }, key)
		}
		return nil
	}, key))
	require.Equal(t, 2, calls)
}
