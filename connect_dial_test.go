package dsql_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// refusals are definite: another address of the same cluster says the same.
func TestOneConnectIsOneStartupMessage(t *testing.T) {
	for _, code := range []string{"53300", "53400", "08006", "28000", "XX000"} {
		t.Run(code, func(t *testing.T) {
			s, opts := harness.Start(t, fakepg.Hooks{Password: func(*fakepg.Conn) error { return &pgconn.PgError{Code: code, Message: "access denied"} }})
			pool := harness.NewPool(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) {
				p.ConnConfig.LookupFunc = func(context.Context, string) ([]string, error) {
					return []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}, nil
				}
			}))...)
			require.Error(t, harness.Ping(t, pool))
			require.Equal(t, 1, s.Accepted())
			require.Len(t, s.Conns(), 1)
		})
	}
}

func TestAddressesAreTriedWithinTheConnectTimeout(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	var dialed []string
	pool := harness.NewPool(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) {
		p.ConnConfig.ConnectTimeout = 2 * time.Second
		p.ConnConfig.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1", "192.0.2.2:6432"}, nil }
		p.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed = append(dialed, address)
			if len(dialed) == 1 {
				<-ctx.Done() // a dead path takes its share of the time and no more
				return nil, ctx.Err()
			}
			return harness.DialTo(s.Addr)(ctx, network, address)
		}
	}))...)
	require.NoError(t, harness.Ping(t, pool))
	require.Equal(t, []string{"192.0.2.1:5432", "192.0.2.2:6432"}, dialed)
}

func TestLookupEndsWithTheConnectTimeout(t *testing.T) {
	pool := harness.NewPool(t, dsql.WithCredentials(harness.Credentials), poolConfig(func(p *pgxpool.Config) {
		p.ConnConfig.ConnectTimeout = 50 * time.Millisecond
		p.ConnConfig.LookupFunc = func(ctx context.Context, _ string) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}))
	err := harness.Ping(t, pool)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Contains(t, dsql.Explain(err), "(DNS)")
}

func TestTypedErrorsSurviveTheDial(t *testing.T) {
	broken := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("broken")}
	pool := harness.NewPool(t, dsql.WithCredentials(harness.Credentials),
		dsql.WithDialFunc(func(context.Context, string, string) (net.Conn, error) { return nil, broken }))
	var op *net.OpError
	require.ErrorAs(t, harness.Ping(t, pool), &op)
	require.Same(t, broken, op)
}
