package dsql_test

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestRegisterDriver(t *testing.T) {
	name := "dsql-" + t.Name()
	require.NoError(t, dsql.RegisterDriver(name))
	require.ErrorContains(t, dsql.RegisterDriver(name), "dsql: a database/sql driver is already registered as \""+name+`"`)
	require.ErrorContains(t, dsql.RegisterDriver("pgx"), "already registered")
	require.ErrorContains(t, dsql.RegisterDriver(""), "dsql: RegisterDriver: the name must not be empty")

	_, err := sql.Open(name, "postgres://admin:hunter2@"+host)
	require.ErrorContains(t, err, "dsql: the URL has a password")
	require.NotContains(t, err.Error(), "hunter2")

	c := startCluster(t)
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	for _, entry := range c.Env() {
		for i := range entry {
			if entry[i] == '=' {
				t.Setenv(entry[:i], entry[i+1:])
				break
			}
		}
	}
	first, err := sql.Open(name, c.URL())
	require.NoError(t, err)
	defer first.Close()
	second, err := sql.Open(name, c.URL())
	require.NoError(t, err)
	defer second.Close()
	require.Same(t, first.Driver(), second.Driver())
	for _, db := range []*sql.DB{first, second} {
		var role string
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_user").Scan(&role))
		require.Equal(t, "admin", role)
	}
	conn, err := first.Driver().Open(c.URL())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// failing is a limiter by which a connector can be told from another.
type failing struct{ calls *atomic.Int64 }

func (f failing) Wait(context.Context) error { f.calls.Add(1); return nil }

func TestNewConnectorAppliesOptionsToACopy(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	var calls atomic.Int64
	cfg := dsql.Config{Endpoint: host, User: "app"}
	c, err := dsql.NewConnector(t.Context(), cfg, harness.With(opts, dsql.WithUser("svc"), dsql.WithConnectLimiter(failing{&calls}))...)
	require.NoError(t, err)
	require.Equal(t, dsql.Config{Endpoint: host, User: "app"}, cfg)
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, harness.Ping(t, pool))
	require.Equal(t, "svc", s.Conns()[0].Parameters["user"])
	require.EqualValues(t, 1, calls.Load())
	_, err = dsql.NewConnector(t.Context(), cfg, nil)
	require.ErrorContains(t, err, "dsql: option 1 is nil")
}
