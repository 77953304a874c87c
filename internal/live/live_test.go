// Package live runs the library's own promises. By default it does so on a local cluster; `make
// live DSQL_ENDPOINT=…` runs the same code against a real one, as admin, with the AWS credentials
// of the environment. It leaves nothing behind.
package live

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// target is the cluster, and the ARN that the credentials belong to: "" if it is not known.
func target(t *testing.T) (cfg dsql.Config, principal string) {
	if os.Getenv("DSQL_LIVE") == "" {
		c := dsqltest.Start(t)
		return c.Config(), c.Principal()
	}
	cfg, err := dsql.FromEnv()
	require.NoError(t, err)
	return cfg, os.Getenv("DSQL_PRINCIPAL")
}

func open(t *testing.T, cfg dsql.Config, opts ...dsql.Option) *pgxpool.Pool {
	t.Helper()
	c, err := dsql.NewConnector(t.Context(), cfg, opts...)
	require.NoError(t, err)
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// apply runs a statement, and again after a conflict.
func apply(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	// Cleanups run when the test's context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	err := occ.Retry(ctx, func(ctx context.Context) error {
		_, err := pool.Exec(ctx, sql)
		return err
	})
	require.NoError(t, err, sql)
}

// name returns a name that no other run uses.
func name() string { return "live_" + strings.ToLower(rand.Text()[:10]) }

// table creates a table with the rows 1 to 10, all zero, that is dropped with the test.
func table(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	table := name()
	apply(t, pool, "CREATE TABLE "+table+" (id int PRIMARY KEY, n int)")
	t.Cleanup(func() { apply(t, pool, "DROP TABLE "+table) })
	apply(t, pool, "INSERT INTO "+table+" SELECT i, 0 FROM generate_series(1, 10) i")
	return table
}

func requireCode(t *testing.T, err error, codes ...string) {
	t.Helper()
	var e *pgconn.PgError
	require.ErrorAs(t, err, &e)
	require.Contains(t, codes, e.Code, e.Message)
}

func TestLive(t *testing.T) {
	cfg, principal := target(t)
	pool := open(t, cfg)
	for _, promise := range []struct {
		name string
		test func(*testing.T)
	}{
		{"TLS at once", func(t *testing.T) { connects(t, cfg, "direct") }},
		{"TLS negotiated", func(t *testing.T) { connects(t, cfg, "postgres") }},
		{"expired token", func(t *testing.T) { expiredToken(t, cfg) }},
		{"unknown role", func(t *testing.T) { unknownRole(t, cfg) }},
		{"roles and their refusals", func(t *testing.T) { roles(t, cfg, pool, principal) }},
		{"OC000", func(t *testing.T) { dataConflict(t, pool) }},
		{"OC001", func(t *testing.T) { schemaConflict(t, pool) }},
		{"limits", func(t *testing.T) { limits(t, pool) }},
		{"COPY", func(t *testing.T) { copyFrom(t, pool) }},
		{"cancel", func(t *testing.T) { cancelQuery(t, pool) }},
		{"database/sql", func(t *testing.T) { databaseSQL(t, cfg) }},
	} {
		t.Run(promise.name, promise.test)
	}
}

func connects(t *testing.T, cfg dsql.Config, negotiation string) {
	cfg.Settings = map[string]string{"sslnegotiation": negotiation}
	pool := open(t, cfg)
	var user, database string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT current_user, current_database()").Scan(&user, &database))
	require.Equal(t, []string{"admin", "postgres"}, []string{user, database})
}

func expiredToken(t *testing.T, cfg dsql.Config) {
	c, err := dsql.NewConnector(t.Context(), cfg, dsql.WithTokenLifetime(time.Second))
	require.NoError(t, err)
	cc, err := c.ConnConfig(t.Context())
	require.NoError(t, err)
	time.Sleep(3 * time.Second)
	_, err = pgx.ConnectConfig(t.Context(), cc)
	require.True(t, dsql.IsAccessDenied(err), "%v", err)
	require.Contains(t, dsql.Explain(err), "expired")
}

func unknownRole(t *testing.T, cfg dsql.Config) {
	err := open(t, cfg, dsql.WithUser(name())).Ping(t.Context())
	require.True(t, dsql.IsAccessDenied(err), "%v", err)
	require.NotEmpty(t, dsql.Explain(err))
}

func roles(t *testing.T, cfg dsql.Config, pool *pgxpool.Pool, principal string) {
	if principal == "" {
		t.Skip("set DSQL_PRINCIPAL to the ARN of the IAM role or user that the credentials belong to")
	}
	role := name()
	grantee := "'" + strings.ReplaceAll(principal, "'", "''") + "'"
	apply(t, pool, "CREATE ROLE "+role+" WITH LOGIN")
	t.Cleanup(func() { apply(t, pool, "DROP ROLE "+role) })
	app := open(t, cfg, dsql.WithUser(role))
	require.True(t, dsql.IsAccessDenied(app.Ping(t.Context())), "before AWS IAM GRANT")

	apply(t, pool, "AWS IAM GRANT "+role+" TO "+grantee)
	require.Eventually(t, func() bool { return app.Ping(t.Context()) == nil }, time.Minute, time.Second, "after AWS IAM GRANT")
	_, err := app.Exec(t.Context(), "CREATE TABLE "+name()+" (id int PRIMARY KEY)")
	requireCode(t, err, "42501")

	apply(t, pool, "AWS IAM REVOKE "+role+" FROM "+grantee)
	require.Eventually(t, func() bool {
		app.Reset()
		return dsql.IsAccessDenied(app.Ping(t.Context()))
	}, time.Minute, time.Second, "after AWS IAM REVOKE")
}

func dataConflict(t *testing.T, pool *pgxpool.Pool) {
	table := table(t, pool)
	update := "UPDATE " + table + " SET n = n + 1 WHERE id = 1"
	attempts, applied := 0, 1
	err := occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
		attempts++
		if _, err := tx.Exec(t.Context(), update); err != nil {
			return err
		}
		if attempts == 1 { // writers never block: either this one commits first, or the transaction conflicts already
			_, err := pool.Exec(t.Context(), update)
			if err == nil {
				applied++
			}
			return err
		}
		return nil
	}, occ.WithOnRetry(func(e occ.RetryEvent) { require.Equal(t, occ.DataConflict, occ.ConflictKind(e.Err), "%v", e.Err) }))
	require.NoError(t, err)
	require.Equal(t, 2, attempts)
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT n FROM "+table+" WHERE id = 1").Scan(&n))
	require.Equal(t, applied, n)
}

// The other session gets OC001 once for a change, or sees the change in time and gets none: one of
// ten is enough.
func schemaConflict(t *testing.T, pool *pgxpool.Pool) {
	table := table(t, pool)
	for i := range 10 {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "UPDATE "+table+" SET n = 1 WHERE id = 1")
		if err == nil {
			apply(t, pool, fmt.Sprintf("ALTER TABLE %s ADD COLUMN c%d int", table, i))
			err = tx.Commit(t.Context())
		}
		_ = tx.Rollback(t.Context())
		if err != nil {
			require.Equal(t, occ.SchemaConflict, occ.ConflictKind(err), "%v", err)
			apply(t, pool, "UPDATE "+table+" SET n = 1 WHERE id = 1") // it is retried
			return
		}
	}
	t.Fatal("no schema conflict in ten changes")
}

func limits(t *testing.T, pool *pgxpool.Pool) {
	table := table(t, pool)
	fill := "INSERT INTO " + table + " SELECT i, 0 FROM generate_series(11, %d) i"
	_, err := pool.Exec(t.Context(), fmt.Sprintf(fill, 3011)) // 3,001 rows
	requireCode(t, err, "54000")
	require.NotEmpty(t, dsql.Explain(err))
	apply(t, pool, fmt.Sprintf(fill, 3010))

	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "SAVEPOINT a")
		return err
	})
	requireCode(t, err, "0A000")
	for _, sql := range []string{"TRUNCATE " + table, "CREATE INDEX ON " + table + " (n)", "SET statement_timeout = 1000", "VACUUM"} {
		_, err := pool.Exec(t.Context(), sql)
		requireCode(t, err, "0A000")
	}
}

func copyFrom(t *testing.T, pool *pgxpool.Pool) {
	table := table(t, pool)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	tag, err := conn.Conn().PgConn().CopyFrom(t.Context(), strings.NewReader("11\t0\n12\t0\n"), "COPY "+table+" FROM STDIN")
	require.NoError(t, err)
	require.EqualValues(t, 2, tag.RowsAffected())
	n, err := conn.CopyFrom(t.Context(), pgx.Identifier{table}, []string{"id", "n"}, pgx.CopyFromRows([][]any{{13, 0}}))
	if err != nil { // no record says whether DSQL takes the binary format
		require.NotEmpty(t, os.Getenv("DSQL_LIVE"))
		t.Logf("COPY in the binary format: %v", err)
		return
	}
	require.EqualValues(t, 1, n)
}

func cancelQuery(t *testing.T, pool *pgxpool.Pool) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	_, err := pool.Exec(ctx, "SELECT pg_sleep(60)")
	require.True(t, errors.Is(err, context.DeadlineExceeded), "%v", err)
	require.Less(t, time.Since(start), 30*time.Second)
	require.NoError(t, pool.Ping(t.Context()))
}

func databaseSQL(t *testing.T, cfg dsql.Config) {
	db, err := dsql.OpenDB(t.Context(), cfg.Endpoint, cfg.Region, func(c *dsql.Config) error { *c = cfg; return nil })
	require.NoError(t, err)
	defer db.Close()
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT $1::int", 7).Scan(&n))
	require.Equal(t, 7, n)
}
