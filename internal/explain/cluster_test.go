package explain_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/occ"
)

func TestExplainRefusalsOfACluster(t *testing.T) {
	for _, tt := range []struct {
		name, role string
		setup      func(*dsqltest.Cluster)
		want       string
	}{
		{"role not granted", "stranger", func(*dsqltest.Cluster) {}, "AWS IAM GRANT stranger TO"},
		{"clock behind", "app", func(c *dsqltest.Cluster) { c.SetClockOffset(time.Hour) }, "clock (NTP)"},
		{"waking up", "app", func(c *dsqltest.Cluster) { c.SetWaking(time.Hour) }, "30 seconds"},
		{"too many", "app", func(c *dsqltest.Cluster) { c.RefuseConnections("53300") }, "10,000"},
		{"too fast", "app", func(c *dsqltest.Cluster) { c.RefuseConnections("53400") }, "100 per second"},
		{"no reason given", "app", func(c *dsqltest.Cluster) { c.RefuseConnections("08006") }, "dsql:DbConnect on arn:aws:dsql:us-east-1:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dsqltest.Start(t, dsqltest.WithRole("app"))
			tt.setup(c)
			err := harness.Ping(t, harness.ClusterPool(t, c, dsql.WithUser(tt.role)))
			require.Error(t, err)
			require.Contains(t, dsql.Explain(err), tt.want, err)
		})
	}
	t.Run("cluster that is gone", func(t *testing.T) {
		gone, other := dsqltest.Start(t), dsqltest.Start(t)
		pool := harness.ClusterPool(t, gone, func(c *dsql.Config) error { c.DialFunc = nil; return nil }, dsql.WithDialAddress(other.Address()))
		require.NoError(t, gone.Close())
		require.Contains(t, dsql.Explain(harness.Ping(t, pool)), "The cluster was deleted, its ID or region is wrong ("+gone.Endpoint()+")")
	})
}

func TestExplainAnswersOfACluster(t *testing.T) {
	c := dsqltest.Start(t)
	pool := harness.ClusterPool(t, c)
	ctx := t.Context()
	_, err := pool.Exec(ctx, "CREATE TABLE t (id int PRIMARY KEY, n int)")
	require.NoError(t, err)
	insert := func(o pgx.TxOptions) error {
		return pgx.BeginTxFunc(ctx, pool, o, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO t VALUES (1, 1)")
			return err
		})
	}
	c.ConflictNext(1)
	require.Contains(t, dsql.Explain(insert(pgx.TxOptions{})), "Another transaction changed the same rows")
	c.SchemaConflictNext(1)
	require.Contains(t, dsql.Explain(insert(pgx.TxOptions{})), "Another transaction changed the schema")
	require.Contains(t, dsql.Explain(insert(pgx.TxOptions{AccessMode: pgx.ReadOnly})), "The transaction is read-only")

	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT 1/0")
		require.Error(t, err)
		_, err = tx.Exec(ctx, "SELECT 1")
		return err
	})
	require.Contains(t, dsql.Explain(err), "An earlier statement of the transaction failed")

	c.CutAtCommit(dsqltest.AfterApplied)
	err = occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO t VALUES (2, 2)")
		return err
	})
	require.Contains(t, dsql.Explain(err), "The outcome of the transaction is unknown")

	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	c.ExpireSessions()
	require.Eventually(t, func() bool {
		_, err = conn.Exec(ctx, "SELECT 1")
		return err != nil
	}, 10*time.Second, time.Millisecond)
	require.Contains(t, dsql.Explain(err), "60 minutes", err)
}

func TestDialAddressAndClusterOptionReachACluster(t *testing.T) {
	c := dsqltest.Start(t)
	noDialFunc := func(cfg *dsql.Config) error { cfg.DialFunc = nil; return nil }
	require.NoError(t, harness.Ping(t, harness.ClusterPool(t, c, noDialFunc, dsql.WithDialAddress(c.Address()))))

	pool := harness.ClusterPool(t, c, noDialFunc, dsql.WithDialAddress(harness.VPCEndpoint), dsql.WithRuntimeParam("options", `-c search_path=one,\ two`),
		dsql.WithPoolConfig(func(p *pgxpool.Config) error {
			p.ConnConfig.DialFunc = harness.DialTo(c.Address())
			return nil
		}))
	var path string
	require.NoError(t, pool.QueryRow(t.Context(), "SHOW search_path").Scan(&path))
	require.Equal(t, "one, two", path, "options of the caller take effect in addition to amzn-cluster-id")
}

func TestExplainWhatAClusterRefuses(t *testing.T) {
	c := dsqltest.Start(t)
	pool := harness.ClusterPool(t, c)
	_, err := pool.Exec(t.Context(), "CREATE TABLE t (id int PRIMARY KEY, n int)")
	require.NoError(t, err)
	one := func(sql string) func(pgx.Tx) error {
		return func(tx pgx.Tx) error {
			for part := range strings.SplitSeq(sql, "; ") {
				if _, err := tx.Exec(t.Context(), part); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name string
		fn   func(pgx.Tx) error
		want string
	}{
		{"savepoint", func(tx pgx.Tx) error { _, err := tx.Begin(t.Context()); return err }, "no savepoints"},
		{"second DDL", one("CREATE TABLE a (id int); CREATE TABLE b (id int)"), "one DDL"},
		{"DDL with DML", one("INSERT INTO t VALUES (1, 1); CREATE TABLE b (id int)"), "DDL by itself"},
		{"synchronous index", one("CREATE INDEX ON t (n)"), "sys.wait_for_job"},
		{"advisory lock", one("SELECT pg_try_advisory_xact_lock(1)"), "no advisory locks"},
		{"SET TRANSACTION", one("SET TRANSACTION READ ONLY"), "pgx.TxOptions"},
		{"parameter", one("SET statement_timeout = 1000"), "statement_timeout"},
		{"another part of PostgreSQL", one("TRUNCATE t"), "DELETE in batches"},
		{"type serial", one("CREATE TABLE x (id serial PRIMARY KEY)"), "gen_random_uuid()"},
		{"type bigserial", one("CREATE TABLE x (id bigserial PRIMARY KEY)"), "gen_random_uuid()"},
		{"identity without CACHE", one("CREATE TABLE x (id bigint GENERATED ALWAYS AS IDENTITY)"), "CACHE 65536"},
		{"sequence without CACHE", one("CREATE SEQUENCE s"), "CACHE 65536"},
		{"default of a new column", one("ALTER TABLE t ADD COLUMN c int DEFAULT 0"), "SET DEFAULT"},
		{"new column NOT NULL", one("ALTER TABLE t ADD COLUMN c int NOT NULL"), "CHECK (<column> IS NOT NULL) NOT VALID"},
		{"array", one("CREATE TABLE x (tags text[])"), "jsonb"},
		{"index, CONCURRENTLY", one("CREATE INDEX CONCURRENTLY ON t (n)"), "CREATE INDEX ASYNC"},
		{"extension", one(`CREATE EXTENSION "uuid-ossp"`), "gen_random_uuid()"},
		{"schema that does not exist", one("CREATE TABLE nowhere.x (id int)"), "CREATE SCHEMA"},
		{"table that does not exist", one("SELECT 1 FROM nowhere"), "search_path"},
		{"rows", one("INSERT INTO t SELECT generate_series(1, 3001), 1"), "3,000 rows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := pgx.BeginFunc(t.Context(), pool, tt.fn)
			require.Error(t, err)
			require.Contains(t, dsql.Explain(err), tt.want, err)
		})
	}
	t.Run("isolation level", func(t *testing.T) {
		_, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.Serializable})
		require.Contains(t, dsql.Explain(err), "repeatable read", err)
	})
	t.Run("size", func(t *testing.T) {
		_, err := pool.Exec(t.Context(), "CREATE TABLE big (v text)")
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), "INSERT INTO big SELECT repeat('x', 1000000) FROM generate_series(1, 11)")
		require.Contains(t, dsql.Explain(err), "10 MiB", err)
	})
	t.Run("no SNI", func(t *testing.T) {
		conn, err := tls.Dial("tcp", c.Address(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}}) // a proxy in between
		require.NoError(t, err)
		defer conn.Close()
		cfg, err := pgconn.ParseConfig("host=proxy user=admin dbname=postgres sslmode=disable password=''")
		require.NoError(t, err)
		cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
		cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
		_, err = pgconn.ConnectConfig(t.Context(), cfg)
		require.Contains(t, dsql.Explain(err), "received no SNI", err)
	})
}

func TestExplainMissingPrivileges(t *testing.T) {
	c := dsqltest.Start(t, dsqltest.WithRole("app"))
	admin := harness.ClusterPool(t, c)
	for _, sql := range []string{"CREATE SCHEMA closed", "CREATE TABLE closed.t (id int)", "CREATE SCHEMA open", "CREATE TABLE open.orders (id int)", "GRANT USAGE ON SCHEMA open TO app"} {
		_, err := admin.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	pool := harness.ClusterPool(t, c, dsql.WithUser("app"))
	for sql, want := range map[string]string{
		"SELECT 1 FROM closed.t":             "GRANT USAGE ON SCHEMA closed TO <role>",
		"CREATE TABLE open.x (id int)":       "GRANT CREATE ON SCHEMA open TO <role>",
		"INSERT INTO open.orders VALUES (1)": "GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO <role>",
		"DROP TABLE open.orders":             "Only the owner of orders",
		"CREATE TABLE x (id int)":            "Custom roles cannot create objects in the schema public",
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.Contains(t, dsql.Explain(err), want, err)
	}
	elsewhere := harness.ClusterPool(t, c, dsql.WithUser("app"), dsql.WithRuntimeParam("search_path", "nowhere"))
	_, err := elsewhere.Exec(t.Context(), "CREATE TABLE x (id int)")
	require.Contains(t, dsql.Explain(err), "No schema in search_path exists", err)
}
