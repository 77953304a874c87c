package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

func TestSessionAgeLimit(t *testing.T) {
	c := start(t)
	require.Equal(t, 60*time.Minute, c.sessionAge)
	c.sessionAge = 300 * time.Millisecond
	idle, busy := connect(t, c), connect(t, c)
	apply(t, busy, "BEGIN")
	require.Eventually(t, func() bool { return idle.Ping(t.Context()) != nil }, testWait, tick)
	apply(t, busy, "SELECT 1", "COMMIT")
	require.Eventually(t, func() bool { return busy.Ping(context.Background()) != nil }, testWait, tick)
}

func TestLastStatementOfADisconnectedClientIsExecuted(t *testing.T) {
	c := start(t)
	pool := newPool(t, c)
	_, err := pool.Exec(t.Context(), "CREATE TABLE t (i int)")
	require.NoError(t, err)

	w := dialWire(t, c)
	w.startup("user", "admin", "database", "postgres")
	w.requirePasswordRequest()
	w.password(signToken(t, c, "admin"))
	w.requireReady()
	w.Frontend.Send(&pgproto3.Query{String: "INSERT INTO t SELECT 1 FROM pg_sleep(0.05)"})
	require.NoError(t, w.Flush())
	require.NoError(t, w.Conn.Close())
	require.Eventually(t, func() bool {
		var n int
		return pool.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n) == nil && n == 1
	}, time.Minute, 5*time.Millisecond)
}

func TestHalfClosedClientGetsItsReply(t *testing.T) {
	c := start(t)
	w := dialWire(t, c)
	w.startup("user", "admin", "database", "postgres")
	w.requirePasswordRequest()
	w.password(signToken(t, c, "admin"))
	w.requireReady()
	w.Frontend.Send(&pgproto3.Query{String: "SELECT pg_sleep(0.05)"})
	require.NoError(t, w.Flush())
	require.NoError(t, w.CloseWrite())
	w.requireReady()
	w.requireClosed()
}

func TestSessionTerminatedByPostgreSQLIsClosed(t *testing.T) {
	c := start(t)
	conn, err := login(t, pgConfig(t, c, "admin", signToken(t, c, "admin")))
	require.NoError(t, err)
	done := execSleep(t, c, conn)
	_, err = newPool(t, c).Exec(t.Context(), "SELECT pg_terminate_backend($1)", conn.PID())
	require.NoError(t, err)
	var ended *pgconn.PgError
	require.ErrorAs(t, <-done, &ended)
	require.Equal(t, "57P01", ended.Code)
	require.Error(t, conn.Ping(t.Context()))
}
