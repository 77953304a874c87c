package dsql_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// scale is whether the tests of this file run at full size, two minutes in all. It needs 10,000 open
// files.
var scale = os.Getenv("DSQL_BENCH_SCALE") != ""

// accepts notes when a server accepts connections.
type accepts struct {
	mu    sync.Mutex
	times []time.Time
}

func (a *accepts) hook(net.Conn) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, time.Now())
	return nil
}

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools and finalizers kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// All connections of a pool are opened at once. The server never sees more than the rate guard lets
// through, none fails, and nothing is left behind.
func TestManyConnectionsAtOnce(t *testing.T) {
	sizes, rate, burst := []int{1, 100}, 200, 50
	if scale {
		sizes, rate, burst = []int{1, 100, 1000, 5000}, 100, 1000 // the defaults
	}
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			accepted := new(accepts)
			server, opts := harness.Start(t, fakepg.Hooks{Accept: accepted.hook})
			heapBefore, goroutines := heap(), runtime.NumGoroutine()
			pool := harness.NewPool(t, harness.With(opts, dsql.WithConnectRate(float64(rate), burst),
				poolConfig(func(p *pgxpool.Config) {
					p.MaxConns = int32(n)
					p.ConnConfig.ConnectTimeout = time.Minute // the machine may be busy
				}))...)
			start := time.Now()
			conns := make([]*pgxpool.Conn, n)
			errs := make([]error, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { conns[i], errs[i] = pool.Acquire(t.Context()) })
			}
			wg.Wait()
			took := time.Since(start)
			for _, err := range errs {
				require.NoError(t, err)
			}
			require.Equal(t, n, server.Accepted())
			for i, at := range accepted.times {
				let := burst + int(float64(rate)*at.Sub(start).Seconds()) + 1
				require.LessOrEqual(t, i+1, let, "after %v", at.Sub(start))
			}
			perConn := (heap() - heapBefore) / int64(n) / 1024
			for _, conn := range conns {
				conn.Release()
			}
			clear(conns)
			pool.Close()
			t.Logf("%d connections in %v, %d KiB each with the server's side", n, took.Round(time.Millisecond), perConn)
			require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+2 }, 10*time.Second, 10*time.Millisecond)
		})
	}
}

// A pool under load keeps its connections, and neither heap nor goroutines grow.
func TestAcquiresLeaveHeapAndGoroutinesFlat(t *testing.T) {
	const workers, rate, tick = 10, 5_000, 10 * time.Millisecond // 50,000 acquires a second
	length := 500 * time.Millisecond
	if scale {
		length = time.Minute
	}
	server, opts := harness.Start(t, fakepg.Hooks{})
	pool := harness.NewPool(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) { p.MaxConns = workers }))...)
	load := func(length time.Duration) (acquires int64) {
		before := pool.Stat().AcquireCount()
		var wg sync.WaitGroup
		start := time.Now()
		for range workers {
			wg.Go(func() {
				for done := 0; ; time.Sleep(tick) {
					elapsed := min(time.Since(start), length)
					for due := int(rate * elapsed.Seconds()); done < due; done++ {
						conn, err := pool.Acquire(t.Context())
						if err != nil {
							t.Error(err)
							return
						}
						conn.Release()
					}
					if elapsed == length {
						return
					}
				}
			})
		}
		wg.Wait()
		return pool.Stat().AcquireCount() - before
	}
	var conns []*pgxpool.Conn
	for range workers { // all of them, which the load need not open at once
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.Release()
	}
	clear(conns)
	load(tick * 10)
	opened, heapBefore, goroutines := server.Accepted(), heap(), runtime.NumGoroutine()
	start := time.Now()
	acquires := load(length)
	perSecond := float64(acquires) / time.Since(start).Seconds()
	grown := heap() - heapBefore
	t.Logf("%d acquires, %.0f a second; the heap of %d KiB grew by %d KiB; %d goroutines, then %d", acquires, perSecond, heapBefore/1024, grown/1024, goroutines, runtime.NumGoroutine())
	require.EqualValues(t, workers*int64(rate*length.Seconds()), acquires)
	require.Less(t, grown, int64(512*1024))
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+2)
	require.Equal(t, opened, server.Accepted(), "no connection was replaced")
}
