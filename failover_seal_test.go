package dsql_test

import (
	"context"
	"io"
	"net"
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
