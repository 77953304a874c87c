package dsql_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestPeersCannotBreakTheSeal(t *testing.T) {
	hooks := map[string]func(*pgxpool.Config, func(*pgconn.Config)){
		"BeforeConnect": func(p *pgxpool.Config, change func(*pgconn.Config)) {
			p.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { change(&c.Config); return nil }
		},
		"Tracer": func(p *pgxpool.Config, change func(*pgconn.Config)) { p.ConnConfig.Tracer = tracer{change} },
		"AfterNetConnect": func(p *pgxpool.Config, change func(*pgconn.Config)) {
			p.ConnConfig.AfterNetConnect = func(_ context.Context, c *pgconn.Config, conn net.Conn) (net.Conn, error) {
				change(c)
				return conn, nil
			}
		},
	}
	for name, set := range hooks {
		for _, tt := range tamperingWithPeers {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				p := startPair(t, fakepg.Hooks{Accept: func(net.Conn) error {
					if name == "AfterNetConnect" {
						return nil
					}
					return io.EOF
				}}, fakepg.Hooks{})
				err := harness.Ping(t, harness.NewPool(t, harness.With(p.opts, dsql.WithPoolConfig(func(c *pgxpool.Config) error {
					set(c, tt.change)
					return nil
				}))...))
				require.ErrorContains(t, err, tt.want)
				require.Empty(t, p.here.Conns(), "no startup message was sent")
				require.Empty(t, p.there.Conns(), "no startup message was sent")
			})
		}
	}
}

func TestHooksSeeNoTokenOfAnotherEndpoint(t *testing.T) {
	p := startPair(t, fakepg.Hooks{Password: hangUp}, fakepg.Hooks{})
	var seen []string
	require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(p.opts, dsql.WithPoolConfig(func(c *pgxpool.Config) error {
		c.ConnConfig.AfterNetConnect = func(_ context.Context, cc *pgconn.Config, conn net.Conn) (net.Conn, error) {
			seen = append(seen, cc.Password)
			return conn, nil
		}
		return nil
	}))...)))
	require.Equal(t, []string{"", ""}, seen)
	p.requirePeer(t)
}

// What a hook of the caller's refuses says nothing of the endpoint.
func TestFailingHooksOfTheCallerLetNoEndpointRest(t *testing.T) {
	type check func(context.Context, *pgconn.PgConn) error
	for name, tt := range map[string]struct {
		set   func(*pgxpool.Config, check)
		there int // connections
	}{
		"ValidateConnect": {func(p *pgxpool.Config, f check) { p.ConnConfig.ValidateConnect = pgconn.ValidateConnectFunc(f) }, 1},
		"AfterConnect":    {func(p *pgxpool.Config, f check) { p.ConnConfig.AfterConnect = pgconn.AfterConnectFunc(f) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var refuses, down atomic.Bool
			p := startPair(t, fakepg.Hooks{}, fakepg.Hooks{Startup: func(*fakepg.Conn) error {
				if down.Load() {
					return io.EOF
				}
				return nil
			}})
			c := p.connector(t, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
				tt.set(p, func(context.Context, *pgconn.PgConn) error {
					if refuses.Load() {
						return errors.New("unsuitable")
					}
					return nil
				})
				return nil
			}))
			pool, err := c.NewPool(t.Context())
			require.NoError(t, err)
			defer pool.Close()
			require.NoError(t, pool.Ping(t.Context()))

			refuses.Store(true)
			_, err = c.Connect(t.Context())
			require.ErrorContains(t, err, "unsuitable")
			require.Len(t, p.there.Conns(), tt.there, "pgx tries the next endpoint after ValidateConnect")
			for _, e := range c.Endpoints() {
				require.Zero(t, e.Cause)
			}
			require.NoError(t, pool.Ping(t.Context()), "the idle connection is kept")
			require.Len(t, p.here.Conns(), 2)

			down.Store(true)
			_, err = c.Connect(t.Context())
			require.ErrorContains(t, err, "unsuitable")
			require.Zero(t, c.Endpoints()[0].Cause)
			require.Equal(t, tt.there == 1, c.Endpoints()[1].Resting, "the next endpoint's own failure is its own")
		})
	}
}
