package dsqltest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/occ"
)

func requireConflict(t *testing.T, err error) {
	t.Helper()
	require.Equal(t, occ.DataConflict, occ.ConflictKind(err), "%v", err)
}

func TestConflictOnATable(t *testing.T) {
	c := Start(t)
	conn := connect(t, c)
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n int)", "CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO t VALUES (1, 0)")
	require.NoError(t, c.ConflictOn(2, "t"))
	apply(t, conn, "INSERT INTO other VALUES (1)", "SELECT * FROM t", "BEGIN", "UPDATE t SET n = 1")
	_, err := conn.Exec(t.Context(), "COMMIT")
	requireConflict(t, err)
	_, err = conn.Exec(t.Context(), "DELETE FROM t")
	requireConflict(t, err)
	apply(t, conn, "DELETE FROM t")
	require.Equal(t, 2, c.Stats().Conflicts)
}

func TestConflictOnAKey(t *testing.T) {
	c := Start(t)
	conn := connect(t, c)
	apply(t, conn, "CREATE TABLE t (tenant text, id int, n int, PRIMARY KEY (tenant, id))",
		"INSERT INTO t SELECT x, i, 0 FROM generate_series(1, 3) i, unnest(ARRAY['a', 'b']) x")
	require.NoError(t, c.ConflictOn(1, "public.t", "a", 2))
	apply(t, conn, "UPDATE t SET n = 1 WHERE tenant = 'b'", "UPDATE t SET n = 1 WHERE id = 1", "DELETE FROM t WHERE id = 3")
	for _, mode := range modes {
		_, err := conn.Exec(t.Context(), "UPDATE t SET n = n + $1", mode, 1)
		requireConflict(t, err)
		_, err = conn.Exec(t.Context(), "UPDATE t SET n = n + $1", mode, 1)
		require.NoError(t, err)
		require.NoError(t, c.ConflictOn(1, "t", "a"), "by the first column")
	}
	_, err := conn.Exec(t.Context(), "INSERT INTO t VALUES ('a', 9)")
	requireConflict(t, err)

	require.NoError(t, c.ConflictOn(5, "t"))
	c.Restore()
	apply(t, conn, "UPDATE t SET n = 0")
}

func TestRunTxRetriesConflictOn(t *testing.T) {
	c := Start(t)
	pool := newPool(t, c)
	_, err := pool.Exec(t.Context(), "CREATE TABLE t (id int PRIMARY KEY)")
	require.NoError(t, err)
	require.NoError(t, c.ConflictOn(3, "t", 7))
	attempts := 0
	require.NoError(t, occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
		attempts++
		_, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (7)")
		return err
	}))
	require.Equal(t, 4, attempts)
}

func TestConflictOnNothing(t *testing.T) {
	c := Start(t)
	apply(t, connect(t, c), "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE heap (id int)")
	require.ErrorContains(t, c.ConflictOn(1, "missing"), `"missing" does not exist`)
	require.ErrorContains(t, c.ConflictOn(1, "t", 1, 2), "has 1 columns, not 2")
	require.ErrorContains(t, c.ConflictOn(1, "heap", 1), "has 0 columns")
	require.NoError(t, c.ConflictOn(1, "heap"))
}

// indexState returns the status of the only job and whether the index is valid.
func indexState(t *testing.T, conn *pgx.Conn) (status string, valid bool) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT j.status, i.indisvalid FROM sys.jobs j
		JOIN pg_index i ON i.indexrelid = j.object_id`).Scan(&status, &valid))
	return status, valid
}

func TestHoldIndexJobs(t *testing.T) {
	c := Start(t)
	conn := connect(t, c)
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n int)")
	require.NoError(t, c.HoldIndexJobs())
	var job string
	require.NoError(t, conn.QueryRow(t.Context(), "CREATE INDEX ASYNC t_n ON t (n)").Scan(&job))
	time.Sleep(150 * time.Millisecond)
	status, valid := indexState(t, conn)
	require.Equal(t, "processing", status)
	require.False(t, valid)

	done := make(chan error, 1)
	var succeeded bool
	waiter := connect(t, c)
	go func() {
		done <- waiter.QueryRow(context.Background(), "CALL sys.wait_for_job($1)", job).Scan(&succeeded)
	}()
	select {
	case err := <-done:
		require.Fail(t, "the job ended", "%v", err)
	case <-time.After(100 * time.Millisecond):
	}
	c.Restore()
	require.NoError(t, <-done)
	require.True(t, succeeded)
	status, valid = indexState(t, conn)
	require.Equal(t, "completed", status)
	require.True(t, valid)
	apply(t, conn, "DROP INDEX t_n", "CREATE INDEX ASYNC t_n ON t (n)")
}

func TestFailIndexJobs(t *testing.T) {
	c := Start(t)
	conn := connect(t, c)
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n int)")
	require.NoError(t, c.FailIndexJobs("no space"))
	var job string
	require.NoError(t, conn.QueryRow(t.Context(), "CREATE UNIQUE INDEX ASYNC t_n ON t (n)").Scan(&job))
	var succeeded bool
	require.NoError(t, conn.QueryRow(t.Context(), "CALL sys.wait_for_job($1)", job).Scan(&succeeded))
	require.False(t, succeeded)
	var details string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT details FROM sys.jobs").Scan(&details))
	require.Equal(t, "no space", details)
	status, valid := indexState(t, conn)
	require.Equal(t, "failed", status)
	require.False(t, valid)
	c.Restore()
	_, valid = indexState(t, conn)
	require.False(t, valid, "it stays until it is dropped")
	apply(t, conn, "DROP INDEX t_n", "CREATE UNIQUE INDEX ASYNC t_n ON t (n)")
}

func TestLogOfStatementsAndRefusals(t *testing.T) {
	c := Start(t, WithRole("app"))
	conn := connect(t, c)
	_, err := conn.Exec(t.Context(), "VACUUM")
	require.Error(t, err)
	for _, mode := range modes {
		_, err = conn.Exec(t.Context(), "SELECT 1 WHERE 2 = $1", mode, 2)
		require.NoError(t, err)
	}
	c.RefuseConnections("53300")
	require.Error(t, newPool(t, c).Ping(t.Context()))

	var log []Event
	for _, e := range c.Log() {
		require.WithinDuration(t, time.Now(), e.Time, time.Minute)
		require.Equal(t, "admin", e.User)
		log = append(log, Event{Session: e.Session, SQL: e.SQL, Code: e.Code, Message: e.Message})
	}
	require.Equal(t, []Event{
		{Session: 1, SQL: "VACUUM"},
		{Session: 1, Code: "0A000", Message: "unsupported VACUUM statement"},
		{Session: 1, SQL: "SELECT 1 WHERE 2 = $1"},
		{Session: 1, SQL: "SELECT 1 WHERE 2 = $1"},
		{Session: 1, SQL: "SELECT 1 WHERE 2 =  '2'"},
		{Code: "53300", Message: "Unable to accept connection, too many open connections."},
	}, log)
}

func TestLogIsBounded(t *testing.T) {
	c := Start(t)
	conn := connect(t, c)
	for range 101 {
		batch := &pgx.Batch{}
		for range 100 {
			batch.Queue("SELECT 1")
		}
		require.NoError(t, conn.SendBatch(t.Context(), batch).Close())
	}
	n := len(c.Log())
	require.GreaterOrEqual(t, n, 5_000)
	require.Less(t, n, 10_000)
}

func TestClockReachesTheLimits(t *testing.T) {
	c := Start(t)
	conn, idle := connect(t, c), connect(t, c)
	apply(t, conn, "BEGIN", "SELECT 1")
	c.SetClockOffset(299 * time.Second)
	apply(t, conn, "SELECT 1")
	c.SetClockOffset(301 * time.Second)
	_, err := conn.Exec(t.Context(), "SELECT 1")
	requireError(t, err, "54000", "transaction age limit of 300s exceeded")
	apply(t, conn, "ROLLBACK", "BEGIN", "SELECT 1")

	c.SetClockOffset(time.Hour - 10*time.Second)
	apply(t, idle, "SELECT 1")
	c.SetClockOffset(time.Hour)
	_, err = idle.Exec(t.Context(), "SELECT 1")
	require.Error(t, err, "an idle session ends")
	require.True(t, idle.IsClosed())
}
