package dsql_test

import (
	"context"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestPoolDefaults(t *testing.T) {
	pool := harness.NewPool(t, dsql.WithCredentials(harness.Credentials))
	got := pool.Config()
	require.Equal(t, 50*time.Minute, got.MaxConnLifetime)
	require.Equal(t, 5*time.Minute, got.MaxConnLifetimeJitter)
	require.Equal(t, 10*time.Minute, got.MaxConnIdleTime)
	require.Equal(t, 5*time.Second, got.PingTimeout)
	require.Zero(t, got.MinConns)
	require.Zero(t, got.MinIdleConns)
	require.EqualValues(t, max(4, runtime.NumCPU()), got.MaxConns)
	require.Equal(t, 10*time.Second, got.ConnConfig.ConnectTimeout)
	require.Equal(t, pgx.QueryExecModeCacheStatement, got.ConnConfig.DefaultQueryExecMode)
	require.Equal(t, dsql.ApplicationName, got.ConnConfig.RuntimeParams["application_name"])
}

func TestDefaultsStayWhenSomethingElseIsTuned(t *testing.T) {
	pool := harness.NewPool(t, dsql.WithCredentials(harness.Credentials), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns = 20
		return nil
	}))
	got := pool.Config()
	require.EqualValues(t, 20, got.MaxConns)
	require.Equal(t, 50*time.Minute, got.MaxConnLifetime)
	require.Equal(t, 5*time.Minute, got.MaxConnLifetimeJitter)
	require.Equal(t, 10*time.Minute, got.MaxConnIdleTime)
	require.Equal(t, 10*time.Second, got.ConnConfig.ConnectTimeout)
}

func TestLifetimeStaysUnderTheSessionLimit(t *testing.T) {
	for _, tt := range []struct {
		name         string
		life, jitter time.Duration
		want         string // in the error; empty: accepted
	}{
		{"short", 10 * time.Minute, time.Minute, ""},
		{"no jitter", 59 * time.Minute, 0, ""},
		{"just under", 55 * time.Minute, 5*time.Minute - time.Second, ""},
		{"sum at the limit", 55 * time.Minute, 5 * time.Minute, "1h0m0s after which DSQL closes"},
		{"sum over the limit", 55 * time.Minute, 10 * time.Minute, "1h0m0s after which DSQL closes"},
		{"lifetime at the limit", time.Hour, 0, "1h0m0s after which DSQL closes"},
		{"without limit", 0, 0, "MaxConnLifetime is 0s"},
		{"negative", -time.Minute, 0, "MaxConnLifetime is -1m0s"},
		{"negative jitter", 50 * time.Minute, -time.Second, "MaxConnLifetimeJitter is -1s"},
		{"overflowing jitter", 50 * time.Minute, 1<<63 - 1, "1h0m0s after which DSQL closes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pool, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials),
				dsql.WithPoolConfig(func(p *pgxpool.Config) error {
					p.MaxConnLifetime, p.MaxConnLifetimeJitter = tt.life, tt.jitter
					return nil
				}))
			if tt.want == "" {
				require.NoError(t, err)
				pool.Close()
				return
			}
			require.ErrorContains(t, err, "dsql: MaxConnLifetime")
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// mute is a connection that, once it is silent, takes what is written to nowhere.
type mute struct {
	net.Conn
	silent *atomic.Bool
}

func (c mute) Write(b []byte) (int, error) {
	if c.silent.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// As when a machine in between has forgotten the connection: nothing comes back, not
// even an error.
func TestASilentConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	var opened []mute
	pool := harness.ClusterPool(t, c, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
			opened = append(opened, mute{conn, new(atomic.Bool)})
			return opened[len(opened)-1], nil
		}
		return nil
	}))
	require.NoError(t, pool.Ping(t.Context()))
	opened[0].silent.Store(true)
	time.Sleep(1100 * time.Millisecond) // idle for over a second, pgxpool asks before it hands out
	require.NoError(t, pool.Ping(t.Context()), "without a deadline")
	require.Len(t, opened, 2)
	require.NoError(t, opened[0].Close()) // pgx would wait for the server to do so
}

func TestPoolsAreCheapAndLeaveNothingBehind(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{})
	before := runtime.NumGoroutine()
	for range 50 {
		pool, err := dsql.NewPool(t.Context(), host, "", opts...)
		require.NoError(t, err)
		require.NoError(t, harness.Ping(t, pool))
		pool.Close()
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, 10*time.Second, 10*time.Millisecond)
}
