package dsql_test

import (
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// turns is how long n connections take to get their turns.
func turns(t *testing.T, n int, opts ...dsql.Option) time.Duration {
	t.Helper()
	cfg := dsql.Config{Endpoint: host, Credentials: harness.Credentials}
	for _, opt := range opts {
		require.NoError(t, opt(&cfg))
	}
	c, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)
	start := time.Now()
	for range n {
		_, err := c.ConnConfig(t.Context())
		require.NoError(t, err)
	}
	return time.Since(start)
}

func TestConnectRate(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		opts []dsql.Option
		want time.Duration
	}{
		{"burst by default, less a tenth", 900, nil, 0},
		{"after the burst 100 a second by default", 1150, nil, 2500 * time.Millisecond},
		{"cold start of 3,000", 3000, nil, 21 * time.Second},
		{"set", 5, []dsql.Option{dsql.WithConnectRate(2, 1)}, 2 * time.Second},
		{"set under one a second, one kept back", 3, []dsql.Option{dsql.WithConnectRate(0.5, 2)}, 4 * time.Second},
		{"turned off", 5000, []dsql.Option{dsql.WithConnectRate(0, 0)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				require.InDelta(t, tt.want, turns(t, tt.n, tt.opts...), float64(time.Millisecond))
			})
		})
	}
}

func TestConnectRateWaitsWithinTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dsql.Config{Endpoint: host, Credentials: harness.Credentials}
		c, err := dsql.NewConnector(t.Context(), cfg, dsql.WithConnectRate(0.1, 1))
		require.NoError(t, err)
		_, err = c.ConnConfig(t.Context())
		require.NoError(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err = c.ConnConfig(ctx)
		require.ErrorContains(t, err, "dsql: timed out waiting for the connect limiter")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, time.Since(start), "what cannot come is not waited for")

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = c.ConnConfig(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestCloseWhileConnectionsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, dials := dialCounter()
		pool, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dial, dsql.WithConnectRate(0.05, 1))
		require.NoError(t, err)
		require.ErrorIs(t, pool.Ping(t.Context()), errDialed)
		go func() { _ = pool.Ping(context.Background()) }()
		synctest.Wait()
		start := time.Now()
		pool.Close()
		require.Zero(t, time.Since(start))
		require.EqualValues(t, 1, dials.Load())
	})
}

func TestConnectRateIsRefused(t *testing.T) {
	for _, tt := range []struct {
		rate  float64
		burst int
	}{{-1, 1}, {math.NaN(), 1}, {math.Inf(1), 1}, {1, 0}, {1, -1}} {
		_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dsql.WithConnectRate(tt.rate, tt.burst))
		require.ErrorContains(t, err, "dsql: a connect rate of")
	}
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dsql.WithConnectLimiter(nil))
	require.ErrorContains(t, err, "dsql: WithConnectLimiter: the limiter must not be nil")
	_, err = dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, ConnectLimiter: (*rate.Limiter)(nil)})
	require.ErrorContains(t, err, "dsql: ConnectLimiter must not be a nil *rate.Limiter")
}

// coldStart opens n connections, 40 at a time, and returns those that failed.
func coldStart(t *testing.T, n int, quota dsqltest.Option, guard dsql.Option) (failed int64, err error) {
	t.Helper()
	c := startCluster(t, quota)
	connector := newConnector(t, c, guard)
	jobs := make(chan struct{})
	var failures atomic.Int64
	var last atomic.Value
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			for range jobs {
				conn, err := connector.Connect(t.Context())
				if err != nil {
					failures.Add(1)
					last.Store(err)
					continue
				}
				_ = conn.Close()
			}
		})
	}
	for range n {
		jobs <- struct{}{}
	}
	close(jobs)
	wait.Wait()
	err, _ = last.Load().(error)
	return failures.Load(), err
}

func newConnector(t *testing.T, c *dsqltest.Cluster, opts ...dsql.Option) *dsql.Connector {
	t.Helper()
	cfg := dsql.Config{Endpoint: c.Endpoint()}
	for _, opt := range append(c.Options(), opts...) {
		require.NoError(t, opt(&cfg))
	}
	connector, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)
	return connector
}

// The figures are a part of DSQL's, so that the test takes seconds.
func TestColdStartStaysUnderTheQuota(t *testing.T) {
	failed, err := coldStart(t, 500, dsqltest.WithConnectQuota(100, 300), dsql.WithConnectRate(100, 300))
	require.NoError(t, err)
	require.Zero(t, failed)
}

func TestColdStartWithoutTheGuardExceedsTheQuota(t *testing.T) {
	failed, err := coldStart(t, 100, dsqltest.WithConnectQuota(1, 30), dsql.WithConnectRate(0, 0))
	require.Positive(t, failed)
	require.True(t, dsql.IsConnectLimit(err))
	require.Contains(t, dsql.Explain(err), "WithConnectRate")
}

// counting is a limiter that counts its calls, and may refuse.
type counting struct {
	calls atomic.Int64
	err   error
}

func (c *counting) Wait(context.Context) error {
	c.calls.Add(1)
	return c.err
}

func TestConnectLimiterIsCalledOncePerConnect(t *testing.T) {
	canceled := make(chan struct{}, 1)
	s, opts := harness.Start(t, fakepg.Hooks{Cancel: func(uint32, uint32) { canceled <- struct{}{} }})
	limiter := new(counting)
	opts = harness.With(opts, dsql.WithConnectLimiter(limiter))
	pool := harness.NewPool(t, opts...)
	require.Zero(t, limiter.calls.Load(), "construction takes no turn")
	for range 3 {
		require.NoError(t, harness.Ping(t, pool))
		pool.Reset()
	}
	require.NoError(t, openDB(t, opts...).PingContext(t.Context()))
	require.EqualValues(t, 4, limiter.calls.Load())

	cc := connConfig(t, opts)
	for range 2 { // one configuration used twice is two connects
		conn, err := pgx.ConnectConfig(t.Context(), cc)
		require.NoError(t, err)
		require.NoError(t, conn.PgConn().CancelRequest(t.Context()))
		<-canceled
		require.NoError(t, conn.Close(t.Context()))
	}
	require.EqualValues(t, 6, limiter.calls.Load(), "cancel requests take no turn")
	require.Len(t, s.Conns(), 6)
}

func TestLimiterThatFailsEndsTheConnect(t *testing.T) {
	limiter := &counting{err: errors.New("redis://:" + harness.SecretKey + "@host is down")}
	dial, dials := dialCounter()
	pool := harness.NewPool(t, dsql.WithCredentials(harness.Credentials), dial, dsql.WithConnectLimiter(limiter))
	err := harness.Ping(t, pool)
	require.ErrorIs(t, err, limiter.err)
	require.ErrorContains(t, err, "dsql: waiting for the connect limiter failed")
	requireNoSecret(t, err)
	require.Zero(t, dials.Load())
}

// blocking is a limiter that never lets a connection through.
type blocking struct{}

func (blocking) Wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestWaitForATurnEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, _ := dialCounter()
		pool, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dial, dsql.WithConnectLimiter(blocking{}))
		require.NoError(t, err)
		defer pool.Close()
		start := time.Now()
		err = pool.Ping(t.Context()) // pgxpool's context has no deadline
		require.Equal(t, time.Minute, time.Since(start))
		require.ErrorContains(t, err, "dsql: timed out waiting for the connect limiter")
		require.Contains(t, dsql.Explain(err), "waited for the connect limiter")
	})
}

func TestMissingCredentialsCostNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("an outage")
		provider, _ := harness.Provider(func(_ context.Context, call int64) (aws.Credentials, error) {
			if call > 1 {
				return aws.Credentials{}, broken
			}
			return harness.Expiring(time.Minute), nil
		})
		limiter := new(counting)
		dial, _ := dialCounter()
		pool, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(provider), dial, dsql.WithConnectLimiter(limiter))
		require.NoError(t, err)
		defer pool.Close()
		time.Sleep(2 * time.Minute)
		for range 3 {
			require.ErrorIs(t, pool.Ping(t.Context()), broken)
		}
		require.Zero(t, limiter.calls.Load())
	})
}

// A connection that is on its way holds nothing that another waits for.
func TestNothingIsHeldWhileConnecting(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	opts = harness.With(opts, dsql.WithConnectRate(100, 10))
	t.Run("a hook that connects", func(t *testing.T) {
		var c *dsql.Connector
		var nested atomic.Bool
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host}, harness.With(opts, poolConfig(func(p *pgxpool.Config) {
			p.BeforeConnect = func(ctx context.Context, _ *pgx.ConnConfig) error {
				if nested.Swap(true) {
					return nil
				}
				conn, err := c.Connect(ctx)
				if err != nil {
					return err
				}
				return conn.Close()
			}
		}))...)
		require.NoError(t, err)
		pool, err := c.NewPool(t.Context())
		require.NoError(t, err)
		defer pool.Close()
		require.NoError(t, harness.Ping(t, pool))
		require.Len(t, s.Conns(), 2)
	})
	t.Run("connects that hang", func(t *testing.T) {
		release := make(chan struct{})
		var hanging sync.WaitGroup
		var dials atomic.Int64
		pool := harness.NewPool(t, harness.With(opts, dsql.WithDialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials.Add(1) <= 5 {
				<-release
				return nil, errDialed
			}
			return harness.DialTo(s.Addr)(ctx, network, address)
		}), poolConfig(func(p *pgxpool.Config) { p.MaxConns = 10 }))...)
		for range 5 {
			hanging.Go(func() { _ = harness.Ping(t, pool) })
		}
		require.Eventually(t, func() bool { return dials.Load() == 5 }, 10*time.Second, time.Millisecond)
		require.NoError(t, harness.Ping(t, pool))
		close(release)
		hanging.Wait()
	})
}
