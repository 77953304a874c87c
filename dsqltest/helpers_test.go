package dsqltest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/testenv"
)

const (
	testWait = 20 * time.Second
	tick     = 5 * time.Millisecond
)

func TestMain(m *testing.M) {
	if os.Getenv("DSQLTEST_TEST_URL") == "" { // the program's environment is its own
		testenv.Clear()
	}
	os.Exit(m.Run())
}

func newPool(tb testing.TB, c *Cluster, opts ...dsql.Option) *pgxpool.Pool {
	tb.Helper()
	pool, err := dsql.NewPool(tb.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

// modes are query execution modes that send statements differently.
var modes = []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}

func connect(t *testing.T, c *Cluster, opts ...dsql.Option) *pgx.Conn {
	t.Helper()
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// apply executes statements.
func apply(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func requireError(t *testing.T, err error, code, message string) {
	t.Helper()
	var told *pgconn.PgError
	require.ErrorAs(t, err, &told)
	require.Equal(t, code, told.Code, told.Message)
	require.Equal(t, message, told.Message)
}
