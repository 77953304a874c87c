package proxy

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// PostgreSQL may end the monitor's session: the next question is asked on a new one.
func TestMonitorReconnects(t *testing.T) {
	c := start(t)
	pid := func() (pid uint32) {
		require.NoError(t, c.monitor.ask(c.Proxy, "SELECT pg_backend_pid()", nil, &pid))
		return pid
	}
	first := pid()
	require.Equal(t, first, pid())
	require.NoError(t, c.cfg.Server.Exec(t.Context(), c.cfg.Database, "SELECT pg_terminate_backend($1, 5000)", first))
	require.NotEqual(t, first, pid())

	var n int
	require.ErrorContains(t, c.monitor.ask(c.Proxy, "SELECT 1 / 0", nil, &n), "22012")
}

// What a statement names is asked once for each version of the schema.
func TestMonitorForgetsTablesWithTheSchema(t *testing.T) {
	c := start(t)
	conn := connect(t, c)
	ids := func() string { return string(c.tables.of(c.Proxy, "SELECT * FROM t")[0]) }
	require.Empty(t, ids())
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY)")
	first := ids()
	require.NotEmpty(t, first)
	require.Equal(t, first, ids())
	apply(t, conn, "DROP TABLE t")
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY)")
	require.NotEqual(t, first, ids())
}
