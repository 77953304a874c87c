package dsql_test

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// settings are files of which some change settings: outside and inside a transaction, and in a
// statement that is executed whole.
var settings = schemaOf(
	"1.sql", "CREATE SCHEMA app; CREATE SCHEMA other",
	"2.sql", "SET search_path = app; CREATE TABLE a (n int); CREATE INDEX ASYNC a1 ON a (n); CREATE INDEX ASYNC IF NOT EXISTS a2 ON a (n); INSERT INTO a VALUES (1)",
	"3.sql", "BEGIN; SET search_path TO other, app; SET SESSION TIME ZONE 'Asia/Tokyo'; COMMIT; CREATE TABLE b (n int); INSERT INTO a VALUES (2)",
	"4.sql", "CREATE TABLE c (n int)",
	"5.sql", "BEGIN; SET LOCAL search_path = app; CREATE TABLE d (n int); COMMIT; CREATE TABLE e (n int)",
	"6.sql", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SELECT 1",
	"7.sql", "CREATE TABLE f (n int); SET extra_float_digits = 0; CREATE INDEX ASYNC f1 ON f (n)",
)

const wantTables = "app.a app.d other.b public.c public.e public.f"

const tablesQuery = "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename) FROM pg_tables WHERE schemaname IN ('app', 'other', 'public')"

// session returns what the settings of a connection are.
func session(t *testing.T, db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) []string {
	t.Helper()
	names := []string{"search_path", "TimeZone", "default_transaction_read_only", "extra_float_digits"}
	values := make([]string, len(names))
	for i, name := range names {
		require.NoError(t, occ.Retry(t.Context(), func(ctx context.Context) error {
			return db.QueryRow(ctx, "SHOW "+name).Scan(&values[i])
		}))
	}
	return values
}

// onePool returns a pool of one connection, for which a hook sets a search_path.
func onePool(t *testing.T, c *dsqltest.Cluster) *pgxpool.Pool {
	t.Helper()
	opts := append(c.Options(), dsql.WithPoolConfig(func(cfg *pgxpool.Config) error {
		cfg.MaxConns = 1
		cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET search_path = public, app")
			return err
		}
		return nil
	}))
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), opts...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestApplySchemaSettingsHoldUntilTheEndOfTheirFile(t *testing.T) {
	t.Run("pool", func(t *testing.T) {
		pool := onePool(t, startCluster(t))
		before := session(t, pool)
		require.NoError(t, dsql.ApplySchema(t.Context(), pool, settings))
		require.Equal(t, before, session(t, pool))
		require.Equal(t, wantTables, scan[string](t, pool, tablesQuery))
		require.Equal(t, 2, count(t, pool, "app.a"))
		require.Equal(t, 3, count(t, pool, "pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname IN ('a1', 'a2', 'f1') AND indisvalid"))
	})
	t.Run("acquired connection", func(t *testing.T) {
		pool := openPool(t, startCluster(t))
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release() // closing the pool would wait for it if the test fails
		before := session(t, conn)
		require.NoError(t, dsql.ApplySchema(t.Context(), conn, settings))
		require.Equal(t, before, session(t, conn))
		conn.Release()
		require.Equal(t, wantTables, scan[string](t, pool, tablesQuery))
	})
	t.Run("connection", func(t *testing.T) {
		c := startCluster(t)
		conn, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		before := session(t, conn)
		require.NoError(t, dsql.ApplySchema(t.Context(), conn, settings))
		require.Equal(t, before, session(t, conn))
		require.Equal(t, wantTables, scan[string](t, openPool(t, c), tablesQuery))
	})
	t.Run("dsqltest", func(t *testing.T) {
		c := startCluster(t)
		dsqltest.Schema(t, c, settings)
		require.Equal(t, wantTables, scan[string](t, openPool(t, c), tablesQuery))
	})
}

func TestApplySchemaLeavesNoSettingsAfterAnError(t *testing.T) {
	c := startCluster(t)
	files := schemaOf("1.sql", "SET search_path = app; SELECT 1/0")
	pool := onePool(t, c)
	before := session(t, pool)
	require.ErrorContains(t, dsql.ApplySchema(t.Context(), pool, files), "1.sql: SELECT 1/0: ERROR: division by zero")
	require.Equal(t, before, session(t, pool))

	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	require.ErrorContains(t, dsql.ApplySchema(t.Context(), conn, files), "1.sql: SELECT 1/0: ERROR: division by zero")
	require.Equal(t, `"$user", public`, session(t, conn)[0])

	apply := "BEGIN; SET search_path = public; CREATE UNIQUE INDEX ASYNC i ON doubled (n); COMMIT"
	_, err = conn.Exec(t.Context(), "CREATE TABLE doubled (n int)")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "INSERT INTO doubled VALUES (1), (1)")
	require.NoError(t, err)
	require.ErrorContains(t, dsql.ApplySchema(t.Context(), conn, schemaOf("1.sql", apply)), "1.sql: ")
	require.Equal(t, `"$user", public`, session(t, conn)[0], "of a unit that has committed")
}

// Conflicts are retried with the settings.
func TestApplySchemaRetriesWithTheSettings(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE SCHEMA app")
	c.SchemaConflictNext(3)
	require.NoError(t, dsql.ApplySchema(t.Context(), pool, schemaOf("1.sql",
		"SET search_path = app; CREATE TABLE a (n int); BEGIN; INSERT INTO a VALUES (1); INSERT INTO a VALUES (2); COMMIT; CREATE INDEX ASYNC i ON a (n)")))
	require.Equal(t, 2, count(t, pool, "app.a"))
}

// Another connection would not have the settings, so none is used.
func TestApplySchemaFailsIfTheConnectionWithTheSettingsIsLost(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE SCHEMA app")
	require.NoError(t, c.HoldIndexJobs())
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		done <- dsql.ApplySchema(ctx, pool, schemaOf("1.sql",
			"SET search_path = app; CREATE TABLE a (n int); CREATE INDEX ASYNC i ON a (n); CREATE TABLE b (n int); BEGIN; SELECT 1; COMMIT"))
	}()
	require.Eventually(t, func() bool { return count(t, pool, indexes+"'i'") == 1 }, 10*time.Second, 10*time.Millisecond)
	c.ExpireSessions()
	err := <-done
	require.ErrorContains(t, err, "1.sql: CREATE INDEX ASYNC i ON a (n): ")
	c.Restore()
	pool.Reset() // the session of the query above has ended too
	require.Zero(t, count(t, pool, "pg_tables WHERE tablename = 'b'"))

	c.CutAtCommit(dsqltest.BeforeApplied)
	err = dsql.ApplySchema(t.Context(), pool, schemaOf("1.sql", "SET search_path = app; BEGIN; INSERT INTO a VALUES (1); COMMIT; CREATE TABLE b (n int)"))
	var unknown *occ.CommitUnknownError
	require.ErrorAs(t, err, &unknown)
	require.Zero(t, count(t, pool, "pg_tables WHERE tablename = 'b'"))
}

// wrapped is a DB that might send each statement on another connection.
type wrapped struct{ dsql.DB }

func TestApplySchemaRefusesSettingsWithoutOneSession(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c)
	files := fstest.MapFS{"1.sql": {Data: []byte("CREATE TABLE t (n int); SET search_path = app")}}
	require.EqualError(t, dsql.ApplySchema(t.Context(), wrapped{pool}, files), "dsql: ApplySchema: 1.sql: SET search_path = app: "+
		"a file with settings needs one session: use a *pgxpool.Pool, *pgxpool.Conn or *pgx.Conn, not a dsql_test.wrapped; "+
		"or use qualified names, SET LOCAL between BEGIN and COMMIT, or WithRuntimeParam")
	require.Zero(t, count(t, pool, "pg_class WHERE relname = 't'"), "nothing is executed")

	require.NoError(t, dsql.ApplySchema(t.Context(), struct{ *pgxpool.Pool }{pool}, schemaOf("1.sql", "CREATE SCHEMA app; SET search_path = app; CREATE TABLE t (n int)")))
	require.Equal(t, 1, count(t, pool, "pg_tables WHERE schemaname = 'app'"))
}

// Files without settings cost no connection.
func TestApplySchemaKeepsConnectionsThatItSetsNothingOn(t *testing.T) {
	pool := onePool(t, startCluster(t))
	pid := scan[int](t, pool, "SELECT pg_backend_pid()")
	require.NoError(t, dsql.ApplySchema(t.Context(), pool, schemaOf("1.sql",
		"SHOW search_path; CREATE TABLE t (n int); BEGIN; SET LOCAL search_path = public; SET CONSTRAINTS ALL IMMEDIATE; INSERT INTO t VALUES (1); COMMIT")))
	require.Equal(t, pid, scan[int](t, pool, "SELECT pg_backend_pid()"))
	require.NoError(t, dsql.ApplySchema(t.Context(), pool, schemaOf("1.sql", "reset search_path; SELECT 1")))
	require.Equal(t, "public, app", session(t, pool)[0], "the hook's")
}
