package dsql_test

import (
	"context"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/script"
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

// quota refuses what comes faster than DSQL allows, in its words.
type quota struct {
	mu       sync.Mutex
	rate     float64 // a second
	burst    float64
	tokens   float64
	last     time.Time
	refusals atomic.Int64
}

func (q *quota) take() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.tokens = min(q.burst, q.tokens+q.rate*now.Sub(q.last).Seconds())
	q.last = now
	if q.tokens < 1 {
		q.refusals.Add(1)
		return &pgconn.PgError{Code: "53400", Message: "Unable to accept connection, rate exceeded."}
	}
	q.tokens--
	return nil
}

// openAll opens n connections of a pool at once and holds them.
func openAll(t *testing.T, n int, opts []dsql.Option) (failed int64) {
	t.Helper()
	pool := newPool(t, with(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns = int32(n)
		p.ConnConfig.ConnectTimeout = time.Minute // a machine under load
		return nil
	}))...)
	var wait, open sync.WaitGroup
	var failures atomic.Int64
	open.Add(n)
	for range n {
		wait.Go(func() {
			c, err := pool.Acquire(context.Background())
			open.Done()
			if err != nil {
				failures.Add(1)
				return
			}
			open.Wait()
			c.Release()
		})
	}
	wait.Wait()
	return failures.Load()
}

func TestColdStartMeetsNoQuota(t *testing.T) {
	// Less than DSQL's figures, so that the test takes seconds.
	q := &quota{rate: 100, burst: 300, tokens: 300, last: time.Now()}
	s, opts := startScript(t, script.Hooks{Accept: func(net.Conn) error { return q.take() }})
	require.Zero(t, openAll(t, 600, with(opts, dsql.WithConnectRate(100, 300))))
	require.Zero(t, q.refusals.Load())
	require.Len(t, s.Conns(), 600)
}

func TestColdStartWithoutTheGuardMeetsTheQuota(t *testing.T) {
	q := &quota{rate: 1, burst: 20, tokens: 20, last: time.Now()}
	_, opts := startScript(t, script.Hooks{Startup: func(*script.Conn) error { return q.take() }})
	require.Positive(t, openAll(t, 60, with(opts, dsql.WithConnectRate(0, 0))))
	require.Positive(t, q.refusals.Load())
}
