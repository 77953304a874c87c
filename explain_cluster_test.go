package dsql_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

func clusterPool(t *testing.T, c *dsqltest.Cluster, opts ...dsql.Option) *pgxpool.Pool {
	t.Helper()
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestExplainRefusalsOfACluster(t *testing.T) {
	for _, tt := range []struct {
		name, role string
		setup      func(*dsqltest.Cluster)
		want       string
	}{
		{"role not granted", "stranger", func(*dsqltest.Cluster) {}, "AWS IAM GRANT stranger TO"},
		{"clock behind", "app", func(c *dsqltest.Cluster) { c.OffsetClock(time.Hour) }, "clock (NTP)"},
		{"waking up", "app", func(c *dsqltest.Cluster) { c.Wake(time.Hour) }, "30 seconds"},
		{"too many", "app", func(c *dsqltest.Cluster) { c.RefuseConnections("53300") }, "10,000"},
		{"too fast", "app", func(c *dsqltest.Cluster) { c.RefuseConnections("53400") }, "100 a second"},
		{"no reason given", "app", func(c *dsqltest.Cluster) { c.RefuseConnections("08006") }, "dsql:DbConnect on arn:aws:dsql:us-east-1:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dsqltest.Start(t, dsqltest.WithRole("app"))
			tt.setup(c)
			err := ping(t, clusterPool(t, c, dsql.WithUser(tt.role)))
			require.Error(t, err)
			require.Contains(t, dsql.Explain(err), tt.want, err)
		})
	}
	t.Run("cluster that is gone", func(t *testing.T) {
		gone, other := dsqltest.Start(t), dsqltest.Start(t)
		pool := clusterPool(t, gone, func(c *dsql.Config) error { c.DialFunc = nil; return nil }, dsql.WithDialAddress(other.Address()))
		require.NoError(t, gone.Close())
		require.Contains(t, dsql.Explain(ping(t, pool)), "The cluster is deleted, its ID or region is wrong ("+gone.Endpoint()+")")
	})
}

func TestExplainAnswersOfACluster(t *testing.T) {
	c := dsqltest.Start(t)
	pool := clusterPool(t, c)
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
	require.Contains(t, dsql.Explain(insert(pgx.TxOptions{})), "The schema was changed")
	require.Contains(t, dsql.Explain(insert(pgx.TxOptions{AccessMode: pgx.ReadOnly})), "The transaction is read-only")

	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT 1/0")
		require.Error(t, err)
		_, err = tx.Exec(ctx, "SELECT 1")
		return err
	})
	require.Contains(t, dsql.Explain(err), "An earlier statement of the transaction failed")

	c.CutAtCommit(dsqltest.AfterApplied)
	err = dsql.RunTx(ctx, pool, func(tx pgx.Tx) error {
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
	require.NoError(t, ping(t, clusterPool(t, c, noDialFunc, dsql.WithDialAddress(c.Address()))))

	pool := clusterPool(t, c, noDialFunc, dsql.WithDialAddress(vpcEndpoint), dsql.WithRuntimeParam("options", `-c search_path=one,\ two`),
		dsql.WithPoolConfig(func(p *pgxpool.Config) error {
			p.ConnConfig.DialFunc = dialTo(c.Address())
			return nil
		}))
	var path string
	require.NoError(t, pool.QueryRow(t.Context(), "SHOW search_path").Scan(&path))
	require.Equal(t, "one, two", path, "options of the caller count beside amzn-cluster-id")
}
