package dsqltest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func TestEndpointAndRegion(t *testing.T) {
	c := Start(t)
	require.Regexp(t, `^[a-z0-9]{26}\.dsql\.us-east-1\.on\.aws$`, c.Endpoint())
	require.Equal(t, "us-east-1", c.Region())

	c = Start(t, WithRegion("eu-west-2"))
	require.Regexp(t, `^[a-z0-9]{26}\.dsql\.eu-west-2\.on\.aws$`, c.Endpoint())
	require.Equal(t, "eu-west-2", c.Region())
	require.NoError(t, newPool(t, c).Ping(t.Context()))
}

func TestTwoClustersDoNotSeeEachOther(t *testing.T) {
	a, b := newPool(t, Start(t)), newPool(t, Start(t))
	_, err := a.Exec(t.Context(), "CREATE TABLE t (id int)")
	require.NoError(t, err)
	_, err = b.Exec(t.Context(), "SELECT * FROM t")
	require.ErrorContains(t, err, `relation "t" does not exist`)
	_, err = b.Exec(t.Context(), "CREATE TABLE t (id int)")
	require.NoError(t, err)
}

func TestFiftyParallelTests(t *testing.T) {
	for i := range 50 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			useCluster(t, Start(t), i)
		})
	}
}

func TestFiftyClustersAtOnce(t *testing.T) {
	clusters := make([]*Cluster, 50)
	for i := range clusters {
		clusters[i] = Start(t)
	}
	var wait sync.WaitGroup
	for i, c := range clusters {
		wait.Go(func() { useCluster(t, c, i) })
	}
	wait.Wait()
	for _, c := range clusters {
		wait.Go(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func useCluster(t *testing.T, c *Cluster, i int) {
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), "", c.Options()...)
	if err != nil {
		t.Error(err)
		return
	}
	defer pool.Close()
	var got int
	_, err = pool.Exec(t.Context(), "CREATE TABLE t (id int)")
	if err == nil {
		_, err = pool.Exec(t.Context(), "INSERT INTO t VALUES ($1)", i)
	}
	if err == nil {
		err = pool.QueryRow(t.Context(), "SELECT id FROM t").Scan(&got)
	}
	if err != nil || got != i {
		t.Errorf("%s: %d, %v", c, got, err)
	}
}

func TestCloseCutsConnectionsAndRemovesTheDatabase(t *testing.T) {
	c, err := Run(t.Context())
	require.NoError(t, err)
	other := Start(t)
	idle, busy := connect(t, c), connect(t, c)
	done := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.Background(), "SELECT pg_sleep(600)")
		done <- err
	}()
	require.Eventually(t, func() bool {
		var found bool
		err := idle.QueryRow(t.Context(), "SELECT true FROM engine_pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", busy.PgConn().PID()).Scan(&found)
		return err == nil && found
	}, testWait, tick)

	require.NoError(t, c.Close())
	require.Error(t, <-done)
	require.Error(t, idle.Ping(t.Context()))
	require.NoError(t, c.Close())

	var exists bool
	pool := newPool(t, other)
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM engine_pg_database WHERE datname = $1)", c.database()).Scan(&exists))
	require.False(t, exists)

	// The listener is still open, for the other cluster.
	_, err = dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
	requireError(t, err, "08006", "unable to accept connection, invalid sni")
}

func TestRunAfterTheContextIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Run(ctx)
	require.NoError(t, err)
	cancel()
	require.NoError(t, newPool(t, c).Ping(t.Context()))
	require.NoError(t, c.Close())

	_, err = Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestPrintingShowsNoSecret(t *testing.T) {
	c := Start(t)
	creds := c.credentials()
	cfg := dsql.Config{Endpoint: c.Endpoint()}
	for _, opt := range c.Options() {
		require.NoError(t, opt(&cfg))
	}
	for _, value := range []any{c, c.Options(), cfg, &cfg, cfg.Credentials} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
			printed := fmt.Sprintf(verb, value)
			require.NotContains(t, printed, creds.SecretAccessKey)
			require.NotContains(t, printed, fmt.Sprintf("%x", creds.SecretAccessKey))
			require.NotContains(t, printed, creds.AccessKeyID)
		}
	}
	require.Equal(t, c.Endpoint(), c.String())
}

func BenchmarkStart(b *testing.B) {
	Start(b).Close()
	var closing time.Duration
	for b.Loop() {
		c, err := Run(b.Context())
		require.NoError(b, err)
		b.StopTimer()
		began := time.Now()
		require.NoError(b, c.Close())
		closing += time.Since(began)
		b.StartTimer()
	}
	b.ReportMetric(float64(closing.Microseconds())/1000/float64(b.N), "ms/close")
}
