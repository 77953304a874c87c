package occ_test

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// Retry and a serial key add no round trips to what they run, in any mode, nor does a key that queues
// after a conflict.
func TestRetryAndSerialKeyTakeNoRoundTrips(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	key := occ.WithSerialKey("row")
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			var conflict atomic.Bool // at the next COMMIT
			s := startSQLMode(t, mode, func(st fakepg.Statement) fakepg.Reply {
				if st.Step == fakepg.Execute && st.SQL == commit && conflict.CompareAndSwap(true, false) {
					return fakepg.Reply{Err: fakepg.Conflict()}
				}
				return fakepg.Reply{}
			})
			fn := func(tx pgx.Tx) error { return update(ctx, tx) }
			queue := func(b *pgx.Batch) error { b.Queue(updateN, 1); return nil }
			query := func(ctx context.Context) error {
				rows, err := s.pool.Query(ctx, selectN, 1)
				if err != nil {
					return err
				}
				_, err = pgx.CollectRows(rows, pgx.RowTo[int64])
				return err
			}
			statement := s.trips(t, func() error { return query(ctx) })
			if mode == pgx.QueryExecModeDescribeExec {
				require.Equal(t, 2, statement)
			} else {
				require.Equal(t, 1, statement)
			}
			require.Equal(t, statement, s.trips(t, func() error { return occ.Retry(ctx, query) }))
			for _, state := range []string{"cold", "queueing"} {
				require.Equal(t, statement+1, s.trips(t, func() error { return occ.RunTx(ctx, s.pool, fn, key) }), state)
				require.Equal(t, statement, s.trips(t, func() error { return occ.RunBatch(ctx, s.pool, queue, key) }), state)
				require.Equal(t, statement, s.trips(t, func() error { return occ.Retry(ctx, query, key) }), state)
				conflict.Store(true)
				require.NoError(t, occ.RunTx(ctx, s.pool, fn, key))
				require.False(t, conflict.Load())
			}
		})
	}
}

// What RunBatch and a cold serial key allocate themselves is bounded. Most of RunBatch is the trace
// by which it knows whether the batch has committed. The server's allocations, in the same process,
// are the same on both sides.
func TestAllocationsOfRunBatchAndSerialKey(t *testing.T) {
	ctx := t.Context()
	s := startSQL(t)
	count := func(run func() error) float64 {
		once := func() { require.NoError(t, run()) }
		once() // prepares
		return testing.AllocsPerRun(200, once)
	}
	fn := func(tx pgx.Tx) error { return update(ctx, tx) }
	key := occ.WithSerialKey("row")
	plain := count(func() error {
		b := &pgx.Batch{}
		b.Queue(updateN, 1)
		return s.pool.SendBatch(ctx, b).Close()
	})
	batch := count(func() error {
		return occ.RunBatch(ctx, s.pool, func(b *pgx.Batch) error { b.Queue(updateN, 1); return nil })
	})
	run := count(func() error { return occ.RunTx(ctx, s.pool, fn) })
	keyed := count(func() error { return occ.RunTx(ctx, s.pool, fn, key) })
	report := fmt.Sprintf("SendBatch %v, RunBatch %v; RunTx %v, with a serial key %v", plain, batch, run, keyed)
	t.Log(report)
	limit := plain + 31
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		limit += 20 // with -race, sync.Pool drops some of what is put into it
	}
	require.LessOrEqual(t, batch, limit, report)
	require.LessOrEqual(t, keyed, run+2, report)
}
