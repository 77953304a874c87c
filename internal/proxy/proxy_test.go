package proxy

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestCutSessions(t *testing.T) {
	c := start(t)
	pool := newPool(t, c)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	c.CutSessions()
	_, err = conn.Exec(t.Context(), "SELECT 1")
	require.Error(t, err)
	conn.Release()
	require.NoError(t, pool.Ping(t.Context()))
}

func TestExpireSessionsSparesTransactions(t *testing.T) {
	ways := map[string]func(context.Context, *pgx.Conn) error{
		"rollback": func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "ROLLBACK")
			return err
		},
	}
	for name, commit := range commitWays {
		ways["commit, "+name] = commit
	}
	for name, finish := range ways {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			pool := newTable(t, c, 2)
			idle, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			defer idle.Release()
			busy, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			defer busy.Release()
			_, err = busy.Exec(t.Context(), "BEGIN")
			require.NoError(t, err)

			c.ExpireSessions()
			_, err = idle.Exec(t.Context(), "SELECT 1")
			require.Error(t, err, "it ends at once")
			_, err = busy.Exec(t.Context(), "INSERT INTO t VALUES (1, 0)")
			require.NoError(t, err)
			require.NoError(t, finish(t.Context(), busy.Conn()))
			_, err = busy.Exec(t.Context(), "SELECT 1")
			require.Error(t, err, "it ends with its transaction")
		})
	}
}

// After COMMIT the transaction has ended, and the client has not been told yet.
func TestSessionThatExpiresAtCommitGetsItsReply(t *testing.T) {
	c := start(t)
	connect(t, c)
	s := c.openSessions()[0]
	s.noteMessage()
	s.expire()
	_, err := s.client.Conn.Write(nil)
	require.NoError(t, err, "it is open until then")
	s.writeReady()
	_, err = s.client.Conn.Write(nil)
	require.ErrorIs(t, err, net.ErrClosed)
}
