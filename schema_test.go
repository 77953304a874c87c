package dsql_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// openPool returns a pool of a cluster, after it has executed statements.
func openPool(t *testing.T, c *dsqltest.Cluster, statements ...string) *pgxpool.Pool {
	t.Helper()
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	execute(t, pool, statements...)
	return pool
}

// execute retries, as a connection hits a conflict after DDL on another.
func execute(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		require.NoError(t, occ.Retry(t.Context(), func(ctx context.Context) error {
			_, err := pool.Exec(ctx, sql)
			return err
		}), sql)
	}
}

// scan reads one value.
func scan[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, occ.Retry(t.Context(), func(ctx context.Context) error {
		return pool.QueryRow(ctx, sql, args...).Scan(&value)
	}), sql)
	return value
}

func count(t *testing.T, pool *pgxpool.Pool, from string) int {
	t.Helper()
	return scan[int](t, pool, "SELECT count(*) FROM "+from)
}

// indexes is for count.
const indexes = "pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = "

func TestCreateIndexReturnsWhenTheIndexIsValid(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, `CREATE TABLE "City" (id int PRIMARY KEY, name text, n int)`, "CREATE SCHEMA app", "CREATE TABLE app.t (id int)")
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	acquired, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer acquired.Release()
	for _, db := range []dsql.DB{pool, conn, acquired} {
		for name, sql := range map[string]string{
			"name":            `CREATE INDEX ASYNC IF NOT EXISTS name ON "City" (name)`,
			"A;b":             `create unique index async if not exists "A;b" on public."City" (id, n); -- twice`,
			"i":               "CREATE INDEX ASYNC IF NOT EXISTS i ON app.t (id)",
			"City_n_name_idx": `CREATE INDEX ASYNC ON "City" (n, name)`,
		} {
			require.NoError(t, dsql.CreateIndex(t.Context(), db, sql), sql)
			require.Equal(t, 1, count(t, pool, indexes+"'"+name+"' AND indisvalid"), sql)
		}
	}
}

func TestCreateIndexWaitsForTheIndexThatAnotherClientBuilds(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE city (name text)")
	require.NoError(t, c.HoldIndexJobs())
	var clients sync.WaitGroup
	errs := make([]error, 3)
	done := make(chan struct{})
	for i := range errs {
		clients.Go(func() {
			errs[i] = dsql.CreateIndex(t.Context(), pool, "CREATE INDEX ASYNC IF NOT EXISTS name ON city (name)")
		})
	}
	go func() { clients.Wait(); close(done) }()
	require.Eventually(t, func() bool { return count(t, pool, indexes+"'name'") == 1 }, 10*time.Second, 10*time.Millisecond)
	select {
	case <-done:
		t.Fatal("CreateIndex returned before the index was valid")
	case <-time.After(300 * time.Millisecond):
	}
	c.Restore()
	<-done
	require.NoError(t, errors.Join(errs...))
}

func TestCreateIndexEndsWithItsContextAndTheJobGoesOn(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE city (name text)")
	require.NoError(t, c.HoldIndexJobs())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := dsql.CreateIndex(ctx, pool, "CREATE INDEX ASYNC name ON city (name)")
	require.ErrorIs(t, err, context.DeadlineExceeded)

	job := scan[string](t, pool, "SELECT job_id FROM sys.jobs")
	require.ErrorContains(t, err, job)
	c.Restore()
	require.NoError(t, dsql.WaitForJob(t.Context(), pool, job))
}

func TestCreateIndexDropsWhatAFailedBuildLeaves(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE city (name text)")
	const sql = "CREATE UNIQUE INDEX ASYNC IF NOT EXISTS name ON city (name)"
	require.NoError(t, c.FailIndexJobs("no space"))
	require.EqualError(t, dsql.CreateIndex(t.Context(), pool, sql),
		`dsql: CreateIndex: an index build failed: no space; the index "public"."name" was dropped`)
	require.Zero(t, count(t, pool, indexes+"'name'"))
	c.Restore()
	require.NoError(t, dsql.CreateIndex(t.Context(), pool, sql))

	execute(t, pool, "INSERT INTO city VALUES ('Quito'), ('Lagos')")
	require.EqualError(t, dsql.CreateIndex(t.Context(), pool, "CREATE UNIQUE INDEX ASYNC ON city ((1))"),
		`dsql: CreateIndex: an index build failed: Found duplicate key while validating index for UCVs; the index "public"."city_expr_idx" was dropped`)
}

func TestCreateIndexReportsWhatItDidNotMake(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE city (name text)", "CREATE TABLE other (name text)")
	require.NoError(t, c.FailIndexJobs("no space"))
	execute(t, pool, "CREATE INDEX ASYNC left_behind ON city (name)")
	require.Eventually(t, func() bool { return count(t, pool, "sys.jobs WHERE status = 'failed'") == 1 }, 10*time.Second, 10*time.Millisecond)
	err := dsql.CreateIndex(t.Context(), pool, "CREATE INDEX ASYNC IF NOT EXISTS left_behind ON city (name)")
	require.ErrorContains(t, err, `the index "public"."left_behind" exists and is not valid: use DROP INDEX "public"."left_behind", then create it again; job `)
	require.ErrorContains(t, err, " failed: no space")
	require.Equal(t, 1, count(t, pool, indexes+"'left_behind'"))

	require.EqualError(t, dsql.CreateIndex(t.Context(), pool, "CREATE INDEX ASYNC IF NOT EXISTS other ON city (name)"),
		"dsql: CreateIndex: there is no index other on city: another relation may have the name")
}

func TestCreateIndexRefusesOtherStatements(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c)
	for _, sql := range []string{"", "CREATE INDEX ON t (n)", "SELECT 1", "CREATE INDEX ASYNC i ON t (n); DROP TABLE t"} {
		require.ErrorContains(t, dsql.CreateIndex(t.Context(), pool, sql), "must be one CREATE [UNIQUE] INDEX ASYNC, not ")
	}
	require.Zero(t, c.Stats().Connects)
	require.ErrorContains(t, dsql.CreateIndex(t.Context(), pool, "CREATE INDEX ASYNC i ON nowhere (n)"), `relation "nowhere" does not exist`)
}

func TestCreateIndexRetriesOnASchemaConflict(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE city (name text)")
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, conn.Ping(t.Context()))
	_, err = pool.Exec(t.Context(), "CREATE TABLE another (id int)")
	require.NoError(t, err)
	before := c.Stats().Conflicts
	require.NoError(t, dsql.CreateIndex(t.Context(), conn, "CREATE INDEX ASYNC name ON city (name)"))
	require.Greater(t, c.Stats().Conflicts, before)
}

func TestCreateIndexWhenConnectionsAreCut(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE city (name text)")
	require.NoError(t, c.HoldIndexJobs())
	done := make(chan error)
	create := func(db dsql.DB, sql string) {
		go func() { done <- dsql.CreateIndex(t.Context(), db, sql) }()
		require.Eventually(t, func() bool {
			return strings.Contains(lastStatement(c), "FROM sys.jobs")
		}, 10*time.Second, time.Millisecond)
	}
	create(pool, "CREATE INDEX ASYNC a ON city (name)")
	for range 3 {
		c.CutConnections()
		time.Sleep(50 * time.Millisecond)
	}
	c.Restore()
	require.NoError(t, <-done, "a pool has other connections")

	require.NoError(t, c.HoldIndexJobs())
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	create(conn, "CREATE INDEX ASYNC b ON city (name)")
	began := time.Now()
	c.CutConnections()
	require.Error(t, <-done)
	require.Less(t, time.Since(began), 20*time.Second, "a connection cannot be replaced")
}

// lastStatement returns the last statement that the cluster has received.
func lastStatement(c *dsqltest.Cluster) string {
	last := ""
	for _, e := range c.Log() {
		last = e.SQL
	}
	return last
}

func TestWaitForJob(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE t (id int)", "INSERT INTO t VALUES (-1)",
		"ALTER TABLE t ADD CONSTRAINT small CHECK (id < 9) NOT VALID", "ALTER TABLE t ADD CONSTRAINT positive CHECK (id > 0) NOT VALID")
	job := scan[string](t, pool, "ALTER TABLE ASYNC t VALIDATE CONSTRAINT small")
	require.NoError(t, dsql.WaitForJob(t.Context(), pool, job))
	job = scan[string](t, pool, "ALTER TABLE ASYNC t VALIDATE CONSTRAINT positive")
	require.EqualError(t, dsql.WaitForJob(t.Context(), pool, job),
		"dsql: job "+job+` failed: check constraint "positive" of relation "t" is violated by some row`)
	require.EqualError(t, dsql.WaitForJob(t.Context(), pool, "o'clock"),
		`dsql: job "o'clock" is not in sys.jobs, which lists jobs until 30 minutes after their end`)
}

func schemaOf(pairs ...string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

func TestApplySchemaTwice(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c)
	schema := schemaOf(
		"2.sql", "CREATE UNIQUE INDEX ASYNC IF NOT EXISTS city_name ON city (name);\nCREATE INDEX ASYNC IF NOT EXISTS city_n ON city (n);\n"+
			"INSERT INTO city VALUES ('Quito;', 1) ON CONFLICT (name) DO NOTHING;",
		"1.sql", "CREATE TABLE IF NOT EXISTS city (name text, n int); -- a comment; with a semicolon\n"+
			"CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT 2 * n; $$;",
		"3.sql", "BEGIN ISOLATION LEVEL REPEATABLE READ;\nUPDATE city SET n = n + 1;\nUPDATE city SET n = twice(n);\nCOMMIT;",
		"4.sql", "SELECT name, n FROM city",
	)
	for _, want := range []int{4, 10} {
		require.NoError(t, dsql.ApplySchema(t.Context(), pool, schema))
		require.Equal(t, want, scan[int](t, pool, "SELECT n FROM city"))
	}
}

func TestApplySchemaWaitsForIndexesBeforeOtherStatements(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c)
	require.NoError(t, c.HoldIndexJobs())
	done := make(chan error)
	go func() {
		done <- dsql.ApplySchema(t.Context(), pool, schemaOf("1.sql",
			"CREATE TABLE city (name text, n int); CREATE INDEX ASYNC a ON city (name); CREATE INDEX ASYNC b ON city (n); INSERT INTO city VALUES ('Quito', 1)"))
	}()
	require.Eventually(t, func() bool { return count(t, pool, indexes+"'b'") == 1 }, 10*time.Second, 10*time.Millisecond, "both builds have begun")
	time.Sleep(200 * time.Millisecond)
	require.Zero(t, count(t, pool, "city"))
	c.Restore()
	require.NoError(t, <-done)
	require.Equal(t, 1, count(t, pool, "city"))
}

func TestApplySchemaErrors(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE t (id int)", "INSERT INTO t VALUES (1), (1)")
	for sql, want := range map[string]string{
		"SELECT 1; SELECT 1/0; SELECT 2":                                "1.sql: SELECT 1/0: ERROR: division by zero (SQLSTATE 22012)",
		"BEGIN; SELECT 1; SELECT 1/0; COMMIT":                           "1.sql: SELECT 1/0: ERROR: division by zero (SQLSTATE 22012)",
		"CREATE UNIQUE INDEX ASYNC i ON t (id)":                         "1.sql: CREATE UNIQUE INDEX ASYNC i ON t (id): an index build failed: Found duplicate key while validating index for UCVs",
		"BEGIN; CREATE UNIQUE INDEX ASYNC ON t (id); COMMIT":            "1.sql: COMMIT: job ",
		"BEGIN; SELECT 1; ROLLBACK":                                     "1.sql: BEGIN must be followed by COMMIT, not by ROLLBACK",
		"BEGIN; CREATE TABLE a (n int); CREATE TABLE b (n int); COMMIT": "1.sql: CREATE TABLE b (n int): ERROR: multiple ddl statements",
	} {
		require.ErrorContains(t, dsql.ApplySchema(t.Context(), pool, schemaOf("1.sql", sql)), "dsql: ApplySchema: "+want, sql)
	}
	require.EqualError(t, dsql.ApplySchema(t.Context(), pool, schemaOf("1.txt", "")), "dsql: ApplySchema: the schema must have files *.sql in its root")
}

func TestApplySchemaRetriesAndRepeatsNothingThatMayHaveBeenApplied(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE t (id int)")
	c.SchemaConflictNext(1)
	require.NoError(t, dsql.ApplySchema(t.Context(), pool, schemaOf("1.sql", "BEGIN; INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); COMMIT")))
	c.CutAtCommit(dsqltest.AfterApplied)
	var unknown *occ.CommitUnknownError
	err := dsql.ApplySchema(t.Context(), pool, schemaOf("1.sql", "BEGIN; INSERT INTO t VALUES (3); COMMIT"))
	require.ErrorAs(t, err, &unknown)
	require.ErrorContains(t, err, "1.sql: COMMIT: ")
	require.Equal(t, 3, count(t, pool, "t"), "each was applied once")
}

func TestCreateIndexExecutesNoDDLIfTheIndexExists(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE city (name text)")
	for range 2 {
		require.NoError(t, dsql.CreateIndex(t.Context(), pool, "CREATE INDEX ASYNC IF NOT EXISTS name ON city (name)"))
	}
	n := 0
	for _, e := range c.Log() {
		if strings.HasPrefix(e.SQL, "CREATE INDEX") {
			n++
		}
	}
	require.Equal(t, 1, n)
}

func TestApplySchemaTakesNoColumnForAJob(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c)
	require.NoError(t, dsql.ApplySchema(t.Context(), pool, fstest.MapFS{"1.sql": {Data: []byte(`
		CREATE TABLE run (job_id bigint PRIMARY KEY);
		INSERT INTO run VALUES (1) RETURNING job_id;
		SELECT job_id FROM run;
		BEGIN; UPDATE run SET job_id = 2 RETURNING job_id; COMMIT;
	`)}}))
	require.Equal(t, 1, count(t, pool, "run WHERE job_id = 2"))
}

func TestApplySchemaReadsAByteOrderMark(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c)
	require.NoError(t, dsql.ApplySchema(t.Context(), pool, fstest.MapFS{"1.sql": {Data: []byte("\ufeff-- +goose Up\nCREATE TABLE t (id int);\n-- +goose Down\nDROP TABLE t;")}}))
	require.Zero(t, count(t, pool, "t"))
}

// The server would wait for the data, which are not SQL.
func TestApplySchemaRefusesCopy(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c)
	err := dsql.ApplySchema(t.Context(), pool, fstest.MapFS{"1.sql": {Data: []byte("CREATE TABLE t (id int);\nCOPY t FROM STDIN;\n1\n\\.\n")}})
	require.EqualError(t, err, "dsql: ApplySchema: 1.sql: COPY t FROM STDIN: COPY FROM must not be in a schema: use INSERT, or load the data otherwise")
	require.Zero(t, count(t, pool, "pg_class WHERE relname = 't'"), "nothing is executed")
}

// Without quotes PostgreSQL folds ASCII letters only.
func TestCreateIndexOfNamesBeyondASCII(t *testing.T) {
	c := startCluster(t)
	pool := openPool(t, c, "CREATE TABLE Épée (id int)")
	for _, sql := range []string{"CREATE INDEX ASYNC ÜBUNG ON Épée (id)", "CREATE INDEX ASYNC IF NOT EXISTS ÜBUNG ON Épée (id)"} {
		require.NoError(t, dsql.CreateIndex(t.Context(), pool, sql))
	}
	require.Equal(t, 1, count(t, pool, indexes+"'Übung' AND indisvalid"))
}
