package proxy

import (
	"testing"
	"time"

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
			var canceled *pgconn.PgError
			require.ErrorAs(t, <-done, &canceled)
			require.Equal(t, "57014", canceled.Code)
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

// A cancel request may hit one of the proxy's own statements, such as the one that yields rows to
// another session. The client's next statement or COMMIT then reports that error.
func TestErrorOfTheProxysOwnStatement(t *testing.T) {
	for _, mode := range modes {
		c := start(t)
		conn := connect(t, c)
		for _, next := range []string{"SELECT 1", "COMMIT"} {
			apply(t, conn, "BEGIN", "SELECT 1")
			s := c.allSessions()[0]
			s.busy.Lock()
			s.execInternal("SELECT 1 / 0")
			s.busy.Unlock()
			_, err := conn.Exec(t.Context(), next, mode)
			requireError(t, err, "22012", "division by zero")
			if next != "COMMIT" {
				_, err = conn.Exec(t.Context(), next, mode)
				requireError(t, err, "25P02", "current transaction is aborted, commands ignored until end of transaction block")
				apply(t, conn, "ROLLBACK")
			}
			require.Equal(t, byte('I'), conn.PgConn().TxStatus())
		}
	}
}

// Copying the tables for a transaction that will fail at COMMIT can be canceled.
func TestCancelRequestWhileTablesAreCopied(t *testing.T) {
	first, second := beginTwo(t, "CREATE FUNCTION slow(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true FROM pg_sleep(n)'",
		"CREATE TABLE u (id int PRIMARY KEY, n int CHECK (slow(n)))", "INSERT INTO u VALUES (1, 1)")
	apply(t, second, "ROLLBACK")
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 1")
	canceled := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() { canceled <- first.PgConn().CancelRequest(t.Context()) })
	_, err := first.Exec(t.Context(), "SELECT * FROM t JOIN u USING (id) FOR UPDATE")
	requireError(t, err, "57014", "canceling statement due to user request")
	require.NoError(t, <-canceled) // before it ends PostgreSQL may signal again, which would hit the next statement
	require.Equal(t, byte('E'), first.PgConn().TxStatus())
	apply(t, first, "ROLLBACK", "UPDATE t SET n = 3 WHERE id = 1")
}

// A cancel request also ends executing again what a transaction has yielded, before its next
// statement or its COMMIT.
func TestCancelRequestWhileWritesAreExecutedAgain(t *testing.T) {
	for _, next := range []string{"SELECT * FROM t", "UPDATE t SET n = 1 WHERE id = 2", "COMMIT"} {
		first, second := beginTwo(t, "CREATE FUNCTION slow(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true FROM pg_sleep(n)'")
		apply(t, second, "ROLLBACK", "BEGIN")
		apply(t, first, "UPDATE t SET n = 1 WHERE id = 1 AND slow(1)")
		apply(t, second, "UPDATE t SET n = 2 WHERE id = 1", "ROLLBACK")
		canceled := make(chan error, 1)
		time.AfterFunc(300*time.Millisecond, func() { canceled <- first.PgConn().CancelRequest(t.Context()) })
		_, err := first.Exec(t.Context(), next)
		requireError(t, err, "57014", "canceling statement due to user request")
		require.NoError(t, <-canceled)
		if next != "COMMIT" {
			require.Equal(t, byte('E'), first.PgConn().TxStatus())
			apply(t, first, "ROLLBACK")
		}
		require.Equal(t, byte('I'), first.PgConn().TxStatus())
	}
}

// A cancel request also ends executing again what came before a statement that another blocks.
func TestCancelRequestBehindABlockedStatement(t *testing.T) {
	first, second := beginTwo(t, "CREATE FUNCTION slow(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true FROM pg_sleep(n)'")
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1 AND slow(1)")
	apply(t, second, "ROLLBACK", "BEGIN", "UPDATE t SET n = 2 WHERE id = 2")
	slept := make(chan error, 1)
	go func() {
		_, err := second.Exec(t.Context(), "SELECT slow(2)")
		slept <- err
	}()
	time.Sleep(100 * time.Millisecond)
	canceled := make(chan error, 1)
	time.AfterFunc(600*time.Millisecond, func() { canceled <- first.PgConn().CancelRequest(t.Context()) })
	_, err := first.Exec(t.Context(), "UPDATE t SET n = 1 WHERE id = 2")
	requireError(t, err, "57014", "canceling statement due to user request")
	require.NoError(t, <-canceled)
	require.NoError(t, <-slept)
	apply(t, first, "ROLLBACK")
	apply(t, second, "COMMIT")
}

// PostgreSQL reports a lock timeout as a cancel request when it comes between two waits.
func TestLockTimeoutReportedAsACancelRequest(t *testing.T) {
	t.Parallel()
	c := start(t)
	conn := connect(t, c)
	s := c.allSessions()[0]
	canceled := encode(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014", Message: "canceling statement due to user request", Where: "while locking tuple"})
	code := func() string {
		var e pgproto3.ErrorResponse
		require.NoError(t, e.Decode(s.asLockTimeout(canceled).body()))
		return e.Code
	}
	require.Equal(t, "55P03", code())
	require.NoError(t, conn.PgConn().CancelRequest(t.Context()))
	require.Equal(t, "57014", code(), "the client has asked for it")
	require.Equal(t, "55P03", code())
	other := connect(t, c)
	require.NoError(t, other.PgConn().CancelRequest(t.Context()))
	require.Equal(t, "55P03", code())
	for _, m := range []message{encode(&pgproto3.ErrorResponse{Code: "57014", Message: "canceling statement due to statement timeout"}), encode(&pgproto3.ReadyForQuery{TxStatus: 'I'})} {
		require.Equal(t, m, s.asLockTimeout(m))
	}

	server, err := c.cfg.Server.Connect(t.Context(), c.cfg.Database)
	require.NoError(t, err)
	defer server.Close(t.Context())
	_, err = server.Exec(t.Context(), `CREATE FUNCTION public.times_out() RETURNS int LANGUAGE plpgsql AS $$
		BEGIN RAISE 'canceling statement due to user request' USING ERRCODE = '57014'; END $$`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT times_out()")
	requireError(t, err, "40001", dataConflict)
}
