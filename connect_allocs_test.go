package dsql_test

import (
	"context"
	"crypto/tls"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// connectFunc opens one connection.
type connectFunc func(context.Context) (*pgx.Conn, error)

// connects returns the ways to connect to one scripted server: pgx alone with a fixed password and
// the library's TLS settings, as a pool of the library, and as [dsql.Connect].
func connects(tb testing.TB) (raw, pool, single connectFunc, token func()) {
	server, opts := harness.Start(tb, fakepg.Hooks{})
	c, err := dsql.NewConnector(tb.Context(), dsql.Config{Endpoint: host}, append(opts, dsql.WithConnectRate(0, 0))...)
	require.NoError(tb, err)
	p := c.PoolConfig()

	rawConfig, err := pgx.ParseConfig("host=" + host + " user=admin password=secret dbname=postgres" +
		" sslmode=verify-full sslnegotiation=direct connect_timeout=10 application_name=pgx")
	require.NoError(tb, err)
	rawConfig.TLSConfig = p.ConnConfig.TLSConfig.Clone()
	rawConfig.TLSConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	rawConfig.DialFunc = harness.DialTo(server.Addr)
	rawConfig.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }

	raw = func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, rawConfig) }
	pool = func(ctx context.Context) (*pgx.Conn, error) {
		cc := p.ConnConfig.Copy()
		if err := p.BeforeConnect(ctx, cc); err != nil {
			return nil, err
		}
		return pgx.ConnectConfig(ctx, cc)
	}
	single = func(ctx context.Context) (*pgx.Conn, error) {
		cc, err := c.ConnConfig(ctx)
		if err != nil {
			return nil, err
		}
		return pgx.ConnectConfig(ctx, cc)
	}
	token = func() {
		_, err := c.Token(tb.Context())
		require.NoError(tb, err)
	}
	return raw, pool, single, token
}

// allocations returns those of connecting and closing, the server's included, as TLS sessions are
// resumed.
func allocations(tb testing.TB, connect connectFunc) float64 {
	once := func() {
		conn, err := connect(tb.Context())
		require.NoError(tb, err)
		require.NoError(tb, conn.Close(tb.Context()))
	}
	once()
	return testing.AllocsPerRun(50, once)
}

// The seal and the gate allocate little compared with TLS. What the SDK allocates to sign the token
// is its own.
func TestConnectAllocatesLittleMoreThanPgx(t *testing.T) {
	raw, pool, single, token := connects(t)
	base := allocations(t, raw)
	signing := testing.AllocsPerRun(100, token)
	for name, connect := range map[string]connectFunc{"pool": pool, "single": single} {
		got := allocations(t, connect)
		t.Logf("%s: %.0f allocations, of these %.0f for the token, pgx %.0f, ratio %.3f, without the token %.3f",
			name, got, signing, base, got/base, (got-signing)/base)
		require.LessOrEqual(t, got-signing, 1.10*base, name)
	}
}

func BenchmarkConnect(b *testing.B) {
	raw, pool, single, _ := connects(b)
	for _, c := range []struct {
		name    string
		connect connectFunc
	}{{"by=pgx", raw}, {"by=pool", pool}, {"by=single", single}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				conn, err := c.connect(b.Context())
				require.NoError(b, err)
				require.NoError(b, conn.Close(b.Context()))
			}
		})
	}
}
