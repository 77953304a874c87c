package dsql_test

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
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
		require.ErrorContains(t, err, "dsql: no turn to connect came in time")
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
	require.ErrorContains(t, err, "dsql: WithConnectLimiter was given nil")
	_, err = dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, ConnectLimiter: (*rate.Limiter)(nil)})
	require.ErrorContains(t, err, "dsql: ConnectLimiter is a nil *rate.Limiter")
}

// coldStart opens n connections, 40 at a time, and returns those that failed.
func coldStart(t *testing.T, n int, quota dsqltest.Option, guard dsql.Option) (failed int64, err error) {
	t.Helper()
	c := dsqltest.Start(t, quota)
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
func TestColdStartMeetsNoQuota(t *testing.T) {
	failed, err := coldStart(t, 500, dsqltest.WithConnectQuota(100, 300), dsql.WithConnectRate(100, 300))
	require.NoError(t, err)
	require.Zero(t, failed)
}

func TestColdStartWithoutTheGuardMeetsTheQuota(t *testing.T) {
	failed, err := coldStart(t, 100, dsqltest.WithConnectQuota(1, 30), dsql.WithConnectRate(0, 0))
	require.Positive(t, failed)
	require.True(t, dsql.IsConnectLimit(err))
	require.Contains(t, dsql.Explain(err), "WithConnectRate")
}
