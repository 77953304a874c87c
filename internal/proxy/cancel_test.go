package proxy

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

func TestCancelRequests(t *testing.T) {
	c := start(t)
	for _, negotiation := range []string{"direct", "postgres"} {
		t.Run(negotiation, func(t *testing.T) {
			cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
			cfg.SSLNegotiation = negotiation
			conn, err := login(t, cfg)
			require.NoError(t, err)
			done := execSleep(t, c, conn)
			require.NoError(t, conn.CancelRequest(t.Context()))
			var cancelled *pgconn.PgError
			require.ErrorAs(t, <-done, &cancelled)
			require.Equal(t, "57014", cancelled.Code)
			_, err = conn.Exec(t.Context(), "SELECT 1").ReadAll()
			require.NoError(t, err)
		})
	}
}

func TestCancelRequestWithAWrongKey(t *testing.T) {
	c := start(t)
	conn, err := login(t, pgConfig(t, c, "admin", signToken(t, c, "admin")))
	require.NoError(t, err)
	done := execSleep(t, c, conn)

	w := dialWire(t, c)
	request, err := (&pgproto3.CancelRequest{ProcessID: conn.PID(), SecretKey: []byte{1, 2, 3, 4}}).Encode(nil)
	require.NoError(t, err)
	w.send(request)
	w.requireClosed()
	require.Empty(t, done)
	require.NoError(t, conn.CancelRequest(t.Context()))
	require.Error(t, <-done)
}
