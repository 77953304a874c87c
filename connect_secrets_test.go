package dsql_test

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// everySecret is what no printing may show.
var everySecret = append([]string{harness.AccessKey + "%2F"}, harness.Secrets...)

func requireNoSecret(t *testing.T, values ...any) {
	t.Helper()
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			printed := fmt.Sprintf(verb, v)
			for _, secret := range everySecret {
				require.False(t, strings.Contains(printed, secret), "%s of %T shows %q", verb, v, secret)
			}
		}
	}
}

func secretOptions(opts []dsql.Option) []dsql.Option {
	return harness.With(opts, dsql.WithCredentials(credentials.NewStaticCredentialsProvider(harness.AccessKey, harness.SecretKey, "the-session-token")))
}

func TestTokenIsGoneWhenTheConnectHasEnded(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	opts = secretOptions(opts)
	pool := harness.NewPool(t, opts...)
	pooled, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer pooled.Release()
	single, err := dsql.Connect(t.Context(), host, "", opts...)
	require.NoError(t, err)
	defer single.Close(t.Context())
	copied, err := pgx.ConnectConfig(t.Context(), connConfig(t, opts))
	require.NoError(t, err)
	defer copied.Close(t.Context())
	for _, conn := range []*pgx.Conn{pooled.Conn(), single, copied} {
		require.Empty(t, conn.Config().Password)
		requireNoSecret(t, conn, *conn, conn.Config(), *conn.Config(), conn.PgConn())
	}
	requireNoSecret(t, pool, pooled, pool.Config(), pool.Config().ConnConfig)

	sqlConn, err := openDB(t, opts...).Conn(t.Context())
	require.NoError(t, err)
	defer sqlConn.Close()
	require.NoError(t, sqlConn.Raw(func(c any) error { requireNoSecret(t, c); return nil }))
	for _, c := range s.Conns() {
		require.NotEmpty(t, c.Password)
	}
}

func TestTokenIsGoneWhenTheConnectHasFailed(t *testing.T) {
	for name, hooks := range map[string]fakepg.Hooks{
		"refused": {Password: func(*fakepg.Conn) error { return &pgconn.PgError{Code: "28000", Message: "access denied"} }},
		"cut":     {Password: func(*fakepg.Conn) error { return net.ErrClosed }},
	} {
		t.Run(name, func(t *testing.T) {
			_, opts := harness.Start(t, hooks)
			opts = secretOptions(opts)
			_, single := dsql.Connect(t.Context(), host, "", opts...)
			_, copied := pgx.ConnectConfig(t.Context(), connConfig(t, opts))
			for _, err := range []error{harness.Ping(t, harness.NewPool(t, opts...)), openDB(t, opts...).PingContext(t.Context()), single, copied} {
				var connect *pgconn.ConnectError
				require.ErrorAs(t, err, &connect)
				require.Empty(t, connect.Config.Password)
				requireNoSecret(t, err, connect, *connect, connect.Config, dsql.Explain(err))
			}
		})
	}
}

func TestConnStringNamesTheEndpointAndNoPassword(t *testing.T) {
	t.Setenv("PGPASSWORD", "hunter2")
	t.Setenv("PGSSLPASSWORD", "hunter2")
	for _, role := range []string{"app", `o'neil \ x`} {
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, User: role})
		require.NoError(t, err)
		p := c.PoolConfig()
		require.Contains(t, p.ConnString(), "host="+host)
		require.NotContains(t, p.ConnString(), "password")
		require.Empty(t, p.ConnConfig.Password)
		require.Equal(t, role, p.ConnConfig.User)
		again, err := pgxpool.ParseConfig(p.ConnString())
		require.NoError(t, err)
		require.Equal(t, role, again.ConnConfig.User)
		require.Equal(t, slices.Sorted(maps.Keys(p.ConnConfig.RuntimeParams)), []string{"application_name"})
	}
}
