package dsqltest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// A cluster that gets a schema leaves the database that it had to the next cluster.
func TestUnusedDatabaseIsTheNextClusters(t *testing.T) {
	for name, opts := range map[string][]Option{"no roles": nil, "a role": {WithRole("unused_app")}} {
		t.Run(name, func(t *testing.T) {
			first := Start(t, opts...)
			unused := first.database()
			Schema(t, first, fsOf("1.sql", "CREATE TABLE t (id int PRIMARY KEY)"))
			require.NotEqual(t, unused, first.database())

			next := Start(t, opts...)
			for range cap(blank.unused) { // others may be left too
				if next.database() != unused {
					next = Start(t, opts...)
				}
			}
			require.Equal(t, unused, next.database())
			user := "admin"
			if opts != nil {
				user = "unused_app"
			}
			_, err := newPool(t, next, dsql.WithUser(user)).Exec(t.Context(), "SELECT FROM t")
			requireError(t, err, "42P01", `relation "t" does not exist`)
			apply(t, connect(t, first), "SELECT FROM t")
		})
	}
}

func TestUsedDatabaseIsNotTheNextClusters(t *testing.T) {
	first := Start(t)
	used := first.database()
	apply(t, connect(t, first), "CREATE TABLE mine (id int)")
	Schema(t, first, fsOf("1.sql", "CREATE TABLE t (id int PRIMARY KEY)"))
	require.Equal(t, used, first.database())
	apply(t, connect(t, first), "SELECT FROM mine, t")
}

func TestUnusedDatabasesAreFew(t *testing.T) {
	c, own := Start(t), newTemplate(blank.database)
	var databases []string
	for range cap(own.unused) + 1 {
		database, err := newTemplate(blank.database).copy(t.Context(), c.server)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.server.DropDatabase(context.Background(), database) })
		databases = append(databases, database)
	}
	for _, database := range databases {
		require.NoError(t, own.giveBack(t.Context(), c.server, database))
	}
	var left int
	require.NoError(t, connect(t, c).QueryRow(t.Context(), "SELECT count(*) FROM engine_pg_database WHERE datname = ANY ($1)", databases).Scan(&left))
	require.Equal(t, cap(own.unused), left)
}

// Clusters with the same roles share none: what one does to a role is not seen by another.
func TestRolesOfClustersAreApart(t *testing.T) {
	first, second := Start(t, WithRole("apart_app")), Start(t, WithRole("apart_app"))
	apply(t, connect(t, first), "AWS IAM REVOKE apart_app FROM '"+first.Principal()+"'")
	_, err := dsql.Connect(t.Context(), first.Endpoint(), "", append(first.Options(), dsql.WithUser("apart_app"))...)
	require.True(t, dsql.IsAccessDenied(err), "%v", err)
	require.NoError(t, newPool(t, second, dsql.WithUser("apart_app")).Ping(t.Context()))
	require.NoError(t, newPool(t, Start(t, WithRole("apart_app")), dsql.WithUser("apart_app")).Ping(t.Context()))
}

func TestRolesOfAMissingDatabase(t *testing.T) {
	err := createRoles(t.Context(), Start(t).server, "missing", "app")
	require.ErrorContains(t, err, "dsqltest: creating roles: ")
	require.ErrorContains(t, err, `database "missing" does not exist`)
}

func TestFailedRoleLeavesNoTemplate(t *testing.T) {
	for range 2 {
		_, err := Run(t.Context(), WithRole("twice"), WithRole("twice"))
		require.ErrorContains(t, err, `dsqltest: creating the role "twice": ERROR: role "twice" already exists`)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Run(ctx, WithRole("canceled"))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, newPool(t, Start(t, WithRole("canceled")), dsql.WithUser("canceled")).Ping(t.Context()))
}

// A cluster that is closed gets no schema, and leaves nothing to the next cluster.
func TestSchemaOfAClosedCluster(t *testing.T) {
	closed := Start(t)
	require.NoError(t, closed.Close())
	files := fsOf("1.sql", "CREATE TABLE t (id int PRIMARY KEY)")
	require.Error(t, closed.ApplySchema(t.Context(), files))
	for range cap(blank.unused) + 1 {
		apply(t, connect(t, Start(t)), "SELECT 1")
	}
}

// A fault that is set while a schema is applied is the cluster's own, and not the next one's.
func TestFaultDuringApplySchema(t *testing.T) {
	files := fsOf("1.sql", "CREATE TABLE t (id int PRIMARY KEY, n int)")
	Schema(t, Start(t), files) // makes the template
	for i := range 5 {
		c := Start(t)
		applied := make(chan error, 1)
		go func() { applied <- c.ApplySchema(context.Background(), files) }()
		time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		require.NoError(t, c.FailIndexJobs("no space"))
		require.NoError(t, <-applied)
		require.Equal(t, "failed", indexJob(t, c))

		next := Start(t)
		Schema(t, next, files)
		require.Equal(t, "completed", indexJob(t, next))
	}
}

// indexJob returns the status of the job of a new index, once it has ended.
func indexJob(t *testing.T, c *Cluster) (status string) {
	t.Helper()
	conn := connect(t, c)
	var id string
	require.NoError(t, conn.QueryRow(t.Context(), "CREATE INDEX ASYNC ON t (n)").Scan(&id))
	require.Eventually(t, func() bool {
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT status FROM sys.jobs WHERE job_id = $1", id).Scan(&status))
		return status == "failed" || status == "completed"
	}, 10*time.Second, 10*time.Millisecond)
	return status
}
