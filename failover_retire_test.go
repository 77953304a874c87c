package dsql_test

import (
	"database/sql"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
)

// startDown starts a pair whose first endpoint is down until back is called, and what becomes of it
// then is known to c.
func startDown(t *testing.T, retirement time.Duration, opts ...dsql.Option) (p pair, c *dsql.Connector, back func()) {
	t.Helper()
	var up atomic.Bool
	p = startPair(t, fakepg.Hooks{Accept: func(net.Conn) error {
		if !up.Load() {
			return io.EOF
		}
		return nil
	}}, fakepg.Hooks{})
	c = p.connector(t, opts...)
	c.SetRetirement(retirement)
	return p, c, func() {
		up.Store(true)
		require.Eventually(t, func() bool {
			conn, err := c.Connect(t.Context())
			return err == nil && conn.Close() == nil && c.Endpoints()[0].Cause == ""
		}, 30*time.Second, 10*time.Millisecond)
	}
}

// hold has n connections of a pool in use at the same time.
func hold(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	var held []*pgxpool.Conn
	for range n {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Release()
	}
}

// Idle connections retire by themselves, also those that a pool keeps as its minimum.
func TestIdleConnectionsToAPeerRetireSpreadOut(t *testing.T) {
	const n = 12
	p, c, back := startDown(t, 4*time.Second, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns, p.MinConns, p.HealthCheckPeriod = n, n, 50*time.Millisecond
		return nil
	}))
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	defer pool.Close()
	require.Eventually(t, func() bool { return p.there.Open() == n }, 30*time.Second, time.Millisecond)
	back()

	seen := map[int]bool{}
	require.Eventually(t, func() bool {
		open := p.there.Open()
		seen[open] = true
		return open == 0
	}, 60*time.Second, time.Millisecond)
	delete(seen, n)
	delete(seen, 0)
	require.GreaterOrEqual(t, len(seen), 2, "one after another, not all at once")
	require.Eventually(t, func() bool { return p.here.Open() == n }, 30*time.Second, time.Millisecond)
	p.requirePeer(t)
}

// Pools that the connector does not know, and database/sql, retire connections at their next use.
func TestUsedConnectionsToAPeerRetire(t *testing.T) {
	const n = 6
	t.Run("PoolConfig", func(t *testing.T) {
		p, c, back := startDown(t, 2*time.Second)
		cfg := c.PoolConfig()
		cfg.MaxConns = n
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		defer pool.Close()
		hold(t, pool, n)
		require.Equal(t, n, p.there.Open())
		back()
		require.Eventually(t, func() bool {
			hold(t, pool, n)
			return p.there.Open() == 0
		}, 60*time.Second, 10*time.Millisecond)
	})
	t.Run("database/sql", func(t *testing.T) {
		p, c, back := startDown(t, 2*time.Second)
		db := sql.OpenDB(c)
		defer db.Close()
		db.SetMaxIdleConns(n)
		use := func() {
			var conns []*sql.Conn
			for range n {
				conn, err := db.Conn(t.Context())
				require.NoError(t, err)
				conns = append(conns, conn)
			}
			for _, conn := range conns {
				require.NoError(t, conn.Close())
			}
		}
		use()
		require.Equal(t, n, p.there.Open())
		back()
		require.Eventually(t, func() bool { use(); return p.there.Open() == 0 }, 60*time.Second, 10*time.Millisecond)
	})
}

// While one connect tries an endpoint whose rest is over, the others use the peer at once.
func TestOneOfManyConnectsTriesARestedEndpoint(t *testing.T) {
	var up atomic.Bool
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	p := startPair(t, fakepg.Hooks{
		Accept: func(net.Conn) error {
			if !up.Load() {
				return io.EOF
			}
			return nil
		},
		Password: func(*fakepg.Conn) error { <-held; return nil },
	}, fakepg.Hooks{})
	t.Cleanup(release)
	c := p.connector(t)
	connect := func() error {
		conn, err := c.Connect(t.Context())
		if err != nil {
			return err
		}
		return conn.Close()
	}
	require.NoError(t, connect())
	up.Store(true)
	require.Eventually(t, func() bool { return !c.Endpoints()[0].Resting }, 30*time.Second, time.Millisecond)

	const many = 24
	results := make(chan error, many)
	for range many {
		go func() { results <- connect() }()
	}
	for range many - 1 { // all but the one that tries
		require.NoError(t, <-results)
	}
	require.Len(t, p.here.Conns(), 1, "one tried it")
	require.Len(t, p.there.Conns(), many)
	require.True(t, c.Endpoints()[0].Resting)
	release()
	require.NoError(t, <-results)
	require.Len(t, p.here.Conns(), 1)
	require.Equal(t, dsql.EndpointState{Endpoint: host, Region: "us-east-1"}, c.Endpoints()[0])
}

func TestEndpointsUnderConcurrentUse(t *testing.T) {
	var calls atomic.Int64
	p := startPair(t, fakepg.Hooks{Accept: func(net.Conn) error {
		if calls.Add(1)%2 == 1 {
			return io.EOF
		}
		return nil
	}}, fakepg.Hooks{})
	c := p.connector(t)
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	defer pool.Close()
	var wg sync.WaitGroup
	end := time.Now().Add(3 * time.Second)
	for range 8 {
		wg.Go(func() {
			for time.Now().Before(end) && pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error { return conn.Ping(t.Context()) }) == nil {
				if conn, err := c.Connect(t.Context()); err == nil {
					_ = conn.Close()
				}
			}
		})
		wg.Go(func() {
			for time.Now().Before(end) {
				states := c.Endpoints()
				if len(states) != 2 || states[0].Endpoint != host || states[1].Endpoint != peerHost ||
					states[0].Until.IsZero() != (states[0].Cause == "") || states[0].Resting && states[0].Cause == "" {
					t.Errorf("%+v", states)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Greater(t, calls.Load(), int64(1))
	p.requirePeer(t)
}
