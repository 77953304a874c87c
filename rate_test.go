package dsql_test

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

// turns is how long n connections take to get their turns.
func turns(t *testing.T, n int, opts ...dsql.Option) time.Duration {
	t.Helper()
	cfg := dsql.Config{Endpoint: host, Credentials: someCredentials}
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
		{"set under one a second", 3, []dsql.Option{dsql.WithConnectRate(0.5, 2)}, 2 * time.Second},
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
		cfg := dsql.Config{Endpoint: host, Credentials: someCredentials, ConnectRate: 0.1, ConnectBurst: 1}
		c, err := dsql.NewConnector(t.Context(), cfg)
		require.NoError(t, err)
		_, err = c.ConnConfig(t.Context())
		require.NoError(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err = c.ConnConfig(ctx)
		require.ErrorContains(t, err, "dsql: no turn to connect came in time, WithConnectRate allows 0.1 a second")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, time.Since(start), "what cannot come is not waited for")

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = c.ConnConfig(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestCloseWhileConnectionsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, dials := dialCounter()
		pool, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(someCredentials), dial, dsql.WithConnectRate(0.001, 1))
		require.NoError(t, err)
		require.ErrorIs(t, pool.Ping(t.Context()), errDialled)
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
		_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(someCredentials), dsql.WithConnectRate(tt.rate, tt.burst))
		require.ErrorContains(t, err, "dsql: a connect rate of")
	}
	for _, cfg := range []dsql.Config{{ConnectRate: math.NaN()}, {ConnectRate: math.Inf(1)}, {ConnectBurst: -1}} {
		cfg.Endpoint, cfg.Credentials = host, someCredentials
		_, err := dsql.NewConnector(t.Context(), cfg)
		require.ErrorContains(t, err, "dsql: a ConnectRate of")
	}
}

// coldStart opens n connections as fast as it may, twenty at a time, as a local
// PostgreSQL does not hold thousands open. It returns those that failed.
func coldStart(t *testing.T, n int, quota dsqltest.Option, guard dsql.Option) (failed int64, err error) {
	t.Helper()
	c := dsqltest.Start(t, quota)
	cfg := dsql.Config{Endpoint: c.Endpoint()}
	for _, opt := range append(c.Options(), guard) {
		require.NoError(t, opt(&cfg))
	}
	connector, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)

	jobs := make(chan struct{})
	var failures atomic.Int64
	var last atomic.Value
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			for range jobs {
				if err := open(t.Context(), connector); err != nil {
					failures.Add(1)
					last.Store(err)
				}
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

func open(ctx context.Context, c *dsql.Connector) error {
	cc, err := c.ConnConfig(ctx)
	if err != nil {
		return err
	}
	cc.ConnectTimeout = time.Minute // a machine under load
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// The figures are a part of DSQL's, so that the test takes seconds. The guard's
// burst is under the quota's for the sake of machines under load, on which the
// first connection comes late.
func TestColdStartMeetsNoQuota(t *testing.T) {
	failed, err := coldStart(t, 500, dsqltest.WithConnectRate(100, 300), dsql.WithConnectRate(100, 250))
	require.NoError(t, err)
	require.Zero(t, failed)
}

func TestColdStartWithoutTheGuardMeetsTheQuota(t *testing.T) {
	failed, err := coldStart(t, 100, dsqltest.WithConnectRate(1, 30), dsql.WithConnectRate(0, 0))
	require.Positive(t, failed)
	require.True(t, dsql.IsConnectLimit(err))
	require.Contains(t, dsql.Explain(err), "WithConnectRate")
}
