package occ_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// BenchmarkHotRow lets workers add 1 to one row for three seconds, each as often
// as it can, under several ways of retrying. Run it with -benchtime 1x.
func BenchmarkHotRow(b *testing.B) {
	for _, server := range []struct {
		name string
		open func(b *testing.B, conns int) *pgxpool.Pool
	}{
		{"script", openScriptedRow},
		{"distant", openDistantRow},
		{"dsqltest", openClusterRow},
	} {
		for _, workers := range []int{8, 32, 128} {
			for _, policy := range policies {
				b.Run(fmt.Sprintf("%s/%d/%s", server.name, workers, policy.name), func(b *testing.B) {
					pool := server.open(b, workers)
					warm(b, pool, workers)
					var r result
					for b.Loop() {
						r = hammer(b, pool, workers, policy.run)
					}
					r.report(b, workers)
				})
			}
		}
	}
}

// BenchmarkColdWithHot has cold workers, each on a row of its own, beside workers on a hot row of
// the same pool. Half of the cold ones use pgx.BeginTxFunc, at the same time: RunTx must not cost
// more. Run it with -benchtime 1x.
func BenchmarkColdWithHot(b *testing.B) {
	const length = 3 * time.Second
	for _, hot := range []int{8, 32} {
		b.Run(strconv.Itoa(hot), func(b *testing.B) {
			pool := openScriptedRow(b, hot+4)
			warm(b, pool, hot+4)
			for b.Loop() {
				var wg sync.WaitGroup
				start := time.Now()
				for range hot {
					work(&wg, b, start, length, func() error {
						return policies[0].run(b.Context(), pool, func(tx pgx.Tx) error { return addOne(b.Context(), tx) })
					})
				}
				var times [4]*[]time.Duration
				for i := range times {
					run := []runTx{withoutBackoff, policies[0].run}[i%2]
					times[i] = work(&wg, b, start, length, func() error {
						return run(b.Context(), pool, func(tx pgx.Tx) error { return addOneTo(b.Context(), tx, 100+i) })
					})
				}
				wg.Wait()
				b.ReportMetric(0, "ns/op")
				for i, name := range []string{"BeginFunc", "RunTx"} {
					all := append(*times[i], *times[i+2]...)
					slices.Sort(all)
					b.ReportMetric(float64(len(all))/length.Seconds(), name+"/s")
					b.ReportMetric(float64(all[len(all)*99/100])/1e6, name+"-p99-ms")
				}
			}
		})
	}
}

// work runs f again and again for a time, and returns how long each took.
func work(wg *sync.WaitGroup, b *testing.B, start time.Time, length time.Duration, f func() error) *[]time.Duration {
	times := new([]time.Duration)
	wg.Go(func() {
		for time.Since(start) < length {
			began := time.Now()
			if err := f(); err != nil {
				b.Error(err)
			}
			*times = append(*times, time.Since(began))
		}
	})
	return times
}

// BenchmarkOneConflict has 20 goroutines delete one row: one commits, the others conflict once, find
// nothing and return an error of their own. Run it with -benchtime 20x.
func BenchmarkOneConflict(b *testing.B) {
	gone := errors.New("no such row")
	for _, way := range []struct {
		name string
		run  runTx
	}{
		{"by=Retry", func(ctx context.Context, pool *pgxpool.Pool, fn func(pgx.Tx) error) error {
			return occ.Retry(ctx, func(ctx context.Context) error { return pgx.BeginTxFunc(ctx, pool, repeatableRead, fn) })
		}},
		{"by=RunTx", policies[0].run},
	} {
		b.Run(way.name, func(b *testing.B) {
			pool := openScriptedRow(b, 20)
			warm(b, pool, 20)
			var times []time.Duration
			row := 1000
			for b.Loop() {
				row++
				var mu sync.Mutex
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						began := time.Now()
						err := way.run(b.Context(), pool, func(tx pgx.Tx) error {
							var n int64
							if err := tx.QueryRow(b.Context(), selectN, row).Scan(&n); err != nil {
								return err
							}
							if n != 0 {
								return gone
							}
							_, err := tx.Exec(b.Context(), "update t set n = $1 where id = $2", 1, row)
							return err
						})
						took := time.Since(began)
						if err != nil && err != gone {
							b.Error(err)
						}
						mu.Lock()
						times = append(times, took)
						mu.Unlock()
					})
				}
				wg.Wait()
			}
			slices.Sort(times)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(times[len(times)/2])/1e6, "p50-ms")
			b.ReportMetric(float64(times[len(times)-1])/1e6, "max-ms")
		})
	}
}

// runTx runs fn in a transaction on pool.
type runTx func(ctx context.Context, pool *pgxpool.Pool, fn func(pgx.Tx) error) error

var repeatableRead = pgx.TxOptions{IsoLevel: pgx.RepeatableRead}

var policies = []struct {
	name string
	run  runTx
}{
	{"RunTx", func(ctx context.Context, pool *pgxpool.Pool, fn func(pgx.Tx) error) error {
		return occ.RunTx(ctx, pool, fn, occ.WithTxOptions(repeatableRead))
	}},
	{"RunTx+SerialKey", func(ctx context.Context, pool *pgxpool.Pool, fn func(pgx.Tx) error) error {
		return occ.RunTx(ctx, pool, fn, occ.WithTxOptions(repeatableRead), occ.WithSerialKey("row"))
	}},
	{"100ms", threeRetries},
	{"none", withoutBackoff},
}

// threeRetries is the policy of AWS's connector: 100 ms, doubling up to 5 s, and
// up to a quarter more.
func threeRetries(ctx context.Context, pool *pgxpool.Pool, fn func(pgx.Tx) error) error {
	wait := 100 * time.Millisecond
	for retries := 0; ; retries++ {
		err := pgx.BeginTxFunc(ctx, pool, repeatableRead, fn)
		if retries == 3 || !occ.IsConflict(err) {
			return err
		}
		time.Sleep(wait + rand.N(wait/4))
		wait = min(2*wait, 5*time.Second)
	}
}

// withoutBackoff is the policy of crdbpgx.ExecuteTx: up to 50 retries, immediately. crdbpgx retries
// in the same transaction, from a savepoint, and commits by releasing it. DSQL has no savepoints, so
// here each attempt is a transaction. Tests in module compare hold both policies to the libraries'.
func withoutBackoff(ctx context.Context, pool *pgxpool.Pool, fn func(pgx.Tx) error) error {
	for retries := 0; ; retries++ {
		err := pgx.BeginTxFunc(ctx, pool, repeatableRead, fn)
		if retries == 50 || !occ.IsConflict(err) {
			return err
		}
	}
}

// openScriptedRow is a server under first-committer-wins whose COMMIT takes a
// millisecond.
func openScriptedRow(b *testing.B, conns int) *pgxpool.Pool {
	rows := &fakepg.Rows{}
	sql := &fakepg.SQL{Answer: func(s fakepg.Statement) fakepg.Reply {
		if s.SQL == commit {
			time.Sleep(time.Millisecond)
		}
		return rows.Answer(s)
	}}
	server := fakepg.Start(b, fakepg.Hooks{Session: sql.Session})
	pool, err := pgxpool.New(b.Context(), fmt.Sprintf("postgres://u:p@%s/db?sslmode=disable&pool_max_conns=%d", server.Addr, conns))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return pool
}

// openClusterRow is real PostgreSQL behind dsqltest, without a network's latency.
func openClusterRow(b *testing.B, conns int) *pgxpool.Pool {
	return openCluster(b, func(c *pgxpool.Config) { c.MaxConns = int32(conns) })
}

// openDistantRow is the same a millisecond away.
func openDistantRow(b *testing.B, conns int) *pgxpool.Pool {
	return openCluster(b, func(c *pgxpool.Config) {
		c.MaxConns = int32(conns)
		c.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
			return distant{conn}, nil
		}
	})
}

// distant is a connection over which a message takes a millisecond.
type distant struct{ net.Conn }

func (c distant) Write(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return c.Conn.Write(b)
}

func openCluster(b *testing.B, tune func(*pgxpool.Config)) *pgxpool.Pool {
	cluster := dsqltest.Start(b)
	pool, err := dsql.NewPool(b.Context(), cluster.Endpoint(), cluster.Region(), append(cluster.Options(),
		dsql.WithPoolConfig(func(c *pgxpool.Config) error { tune(c); return nil }))...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	for _, sql := range []string{"create table t (id int primary key, n bigint)", "insert into t values (1, 0)"} {
		if _, err := pool.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	return pool
}

// warm opens all connections, so that none is opened while time is taken.
func warm(b *testing.B, pool *pgxpool.Pool, conns int) {
	for range conns {
		c, err := pool.Acquire(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Release()
	}
}

type result struct {
	elapsed   time.Duration
	attempts  int64
	failures  int
	successes int
	times     []time.Duration // of all transactions, sorted; a failure never finishes
}

const never = time.Duration(1<<63 - 1)

func hammer(b *testing.B, pool *pgxpool.Pool, workers int, run runTx) result {
	const length = 3 * time.Second
	var r result
	var mu sync.Mutex
	var attempts atomic.Int64
	var wg sync.WaitGroup
	before := value(b, pool)
	start := time.Now()
	for range workers {
		wg.Go(func() {
			for time.Since(start) < length {
				began := time.Now()
				err := run(b.Context(), pool, func(tx pgx.Tx) error {
					attempts.Add(1)
					return addOne(b.Context(), tx)
				})
				took := time.Since(began)
				if err != nil && !occ.IsConflict(err) {
					b.Error(err)
					return
				}
				mu.Lock()
				if err != nil {
					r.failures++
					took = never
				} else {
					r.successes++
				}
				r.times = append(r.times, took)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r.elapsed = time.Since(start)
	r.attempts = attempts.Load()
	slices.Sort(r.times)
	if counted := value(b, pool) - before; counted != r.successes {
		b.Errorf("the row grew by %d in %d transactions", counted, r.successes)
	}
	return r
}

func value(b *testing.B, pool *pgxpool.Pool) (n int) {
	if err := pool.QueryRow(b.Context(), selectN, 1).Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

func addOne(ctx context.Context, tx pgx.Tx) error { return addOneTo(ctx, tx, 1) }

func addOneTo(ctx context.Context, tx pgx.Tx, row int) error {
	var n int64
	if err := tx.QueryRow(ctx, selectN, row).Scan(&n); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "update t set n = $1 where id = $2", n+1, row)
	return err
}

func (r result) report(b *testing.B, workers int) {
	rate := float64(r.successes) / r.elapsed.Seconds()
	fair := float64(workers) / rate * 1000 // milliseconds
	at := func(quantile float64) float64 {
		return float64(r.times[int(quantile*float64(len(r.times)-1))]) / 1e6
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate, "ok/s")
	b.ReportMetric(100*float64(r.failures)/float64(len(r.times)), "failed-%")
	b.ReportMetric(float64(r.attempts)/float64(r.successes), "attempts/ok")
	b.ReportMetric(fair, "fair-ms")
	for name, quantile := range map[string]float64{"p50-ms": 0.5, "p95-ms": 0.95, "p99-ms": 0.99} {
		b.ReportMetric(at(quantile), name)
	}
	b.ReportMetric(at(0.99)/fair, "p99/fair")
}
