package dsql_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/occ"
)

// tripConn counts round trips: writes that follow a read, and the first.
type tripConn struct {
	net.Conn
	trips *tripCounter
}

type tripCounter struct {
	mu      sync.Mutex
	n       int
	waiting bool
}

func (c tripConn) Write(b []byte) (int, error) {
	c.trips.mu.Lock()
	if !c.trips.waiting {
		c.trips.n, c.trips.waiting = c.trips.n+1, true
	}
	c.trips.mu.Unlock()
	return c.Conn.Write(b)
}

func (c tripConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.trips.mu.Lock()
	c.trips.waiting = false
	c.trips.mu.Unlock()
	return n, err
}

// of returns how many round trips f takes, on one connection at a time.
func (c *tripCounter) of(f func()) int {
	c.mu.Lock()
	before := c.n
	c.mu.Unlock()
	f()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n - before
}

// modePool opens a pool of 4 connections in an execution mode, and returns a counter of its round trips.
func modePool(t *testing.T, c *dsqltest.Cluster, mode string) (*pgxpool.Pool, *tripCounter) {
	trips := new(tripCounter)
	pool := harness.ClusterPool(t, c, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns = 4
		dial := p.ConnConfig.DialFunc
		p.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return tripConn{conn, trips}, err
		}
		for _, m := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec} {
			if m.String() == mode {
				p.ConnConfig.DefaultQueryExecMode = m
			}
		}
		return nil
	}))
	return pool, trips
}

// onEach runs sql on each of the pool's connections and returns how many report a schema change, as any
// statement of an open session does once, and how many a stale plan.
func onEach(t *testing.T, pool *pgxpool.Pool, sql string) (changed, stale int) {
	var conns []*pgxpool.Conn
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		rows, _ := conn.Query(t.Context(), sql, 1)
		for rows.Next() {
		}
		switch {
		case occ.ConflictKind(rows.Err()) == occ.SchemaConflict:
			changed++
		case rows.Err() != nil:
			stale++
		}
		conn.Release()
	}
	return changed, stale
}

// docs/performance.md shows what this measures on PostgreSQL: the round trips of a statement on one
// connection, and how many of 4 connections fail once after ALTER TABLE … ADD COLUMN.
func TestExecutionModesAreAsDocumented(t *testing.T) {
	c := startCluster(t)
	docs, err := os.ReadFile("docs/performance.md")
	require.NoError(t, err)
	for i, mode := range []string{"cache statement", "cache describe", "describe exec", "exec"} {
		table := fmt.Sprintf("t%d", i)
		pool, trips := modePool(t, c, mode)
		_, err := pool.Exec(t.Context(), "create table "+table+" (id int primary key, name text)")
		require.NoError(t, err)
		all := "select * from " + table + " where id = $1"
		named := "select id, name from " + table + " where id = $1"

		one, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		query := func() {
			rows, _ := one.Query(t.Context(), all, 1)
			rows.Close()
		}
		first, later := trips.of(query), trips.of(query)
		one.Release()
		for _, sql := range []string{all, named} {
			changed, stale := onEach(t, pool, sql)
			require.Zero(t, changed+stale)
		}

		_, err = pool.Exec(t.Context(), "alter table "+table+" add column email text")
		require.NoError(t, err)
		changed, _ := onEach(t, pool, named) // all but the one that made the change
		require.Equal(t, 3, changed)
		_, staleNamed := onEach(t, pool, named)
		_, staleAll := onEach(t, pool, all)
		one, err = pool.Acquire(t.Context())
		require.NoError(t, err)
		next := trips.of(query)
		one.Release()
		changed, stale := onEach(t, pool, all)
		require.Zero(t, changed+stale, mode)

		row := fmt.Sprintf("| %s | %d | %d | %d of 4 | %d of 4 | %d |", mode, first, later, staleAll, staleNamed, next)
		require.Contains(t, string(docs), row+"\n")
	}
}

// TCP's own round trip comes before these. The connection stays open: Terminate would be
// counted, though nothing answers it.
func TestConnectingTakesThreeRoundTrips(t *testing.T) {
	c := startCluster(t)
	pool, trips := modePool(t, c, "")
	connect := func() {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		t.Cleanup(conn.Release)
	}
	require.Equal(t, 3, trips.of(connect))
}
