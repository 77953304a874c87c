package occ_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/occ"
)

const (
	failoverWorkers  = 32
	failoverAccounts = 64
	failoverDeposit  = 1000
	failoverTimeout  = 3 * time.Second // connect_timeout
)

// Workers transfer money while an endpoint of a multi-Region cluster is lost and comes back. DSQL_BENCH_FAILOVER
// (make bench) has it lost three times in each way, and prints figures.
func TestTransfersSurviveTheLossOfAnEndpoint(t *testing.T) {
	times := 1
	if os.Getenv("DSQL_BENCH_FAILOVER") != "" {
		times = 3
	}
	for _, tt := range []struct {
		name  string
		lose  func(*dsqltest.Cluster)
		limit time.Duration // without a success
	}{
		{"cut", (*dsqltest.Cluster).Cut, 2 * time.Second},
		{"black hole", (*dsqltest.Cluster).BlackHole, failoverTimeout + 2*time.Second},
		{"slow", func(c *dsqltest.Cluster) { c.SetLatency(5 * time.Second) }, failoverTimeout + 2*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bank := openBank(t)
			stop := bank.transfer(t)
			defer stop()
			bank.wait(t, 200)
			for range times {
				tt.lose(bank.cluster)
				bank.wait(t, 500)
				bank.cluster.Restore()
				require.Eventually(t, func() bool { // an endpoint that is back is used
					conn, err := bank.connector.Connect(t.Context())
					return err == nil && conn.Close() == nil && !bank.connector.Endpoints()[0].Resting
				}, 30*time.Second, 50*time.Millisecond)
				bank.wait(t, 200)
			}
			stop()
			t.Logf("%s: %d transfers, %d unknown, longest time without a success %v",
				tt.name, bank.done.Load(), bank.unknown.Load(), bank.longest.Round(time.Millisecond))
			bank.check(t)
			if os.Getenv("DSQL_BENCH_FAILOVER") != "" {
				require.Less(t, bank.longest, tt.limit)
			}
		})
	}
}

// bank is accounts on a cluster with two endpoints.
type bank struct {
	cluster   *dsqltest.Cluster
	connector *dsql.Connector
	pool      *pgxpool.Pool

	done, unknown atomic.Int64
	mu            sync.Mutex
	last          time.Time
	longest       time.Duration
	unsure        map[int]bool // transfers whose outcome is unknown
	sure          map[int]bool // transfers that were applied
}

func openBank(t *testing.T) *bank {
	t.Helper()
	c := dsqltest.Start(t, dsqltest.WithPeer("us-east-2"))
	cfg := c.Config()
	cfg.Settings = map[string]string{"connect_timeout": fmt.Sprint(int(failoverTimeout.Seconds())), "pool_max_conns": fmt.Sprint(failoverWorkers)}
	connector, err := dsql.NewConnector(t.Context(), cfg, dsql.WithFailover(c.Peer().Endpoint(), ""))
	require.NoError(t, err)
	pool, err := connector.NewPool(t.Context())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, statement := range []string{
		"CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)",
		"CREATE TABLE transfer (id int PRIMARY KEY)",
		fmt.Sprintf("INSERT INTO account SELECT id, %d FROM generate_series(1, %d) id", failoverDeposit, failoverAccounts),
	} {
		_, err := pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	return &bank{cluster: c, connector: connector, pool: pool, unsure: map[int]bool{}, sure: map[int]bool{}}
}

// transfer has the workers transfer money until the function it returns is called.
func (b *bank) transfer(t *testing.T) (stop func()) {
	var wg sync.WaitGroup
	var ids atomic.Int64
	end := make(chan struct{})
	b.last = time.Now()
	for range failoverWorkers {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				case <-t.Context().Done():
					return
				default:
				}
				id := int(ids.Add(1))
				b.count(t, id, b.move(t.Context(), id))
			}
		})
	}
	return sync.OnceFunc(func() { close(end); wg.Wait() })
}

func (b *bank) move(ctx context.Context, id int) error {
	from := 1 + rand.N(failoverAccounts)
	to := 1 + (from+rand.N(failoverAccounts-1))%failoverAccounts
	return occ.RunTx(ctx, b.pool, func(tx pgx.Tx) error {
		for account, amount := range map[int]int{from: -1, to: 1} {
			if _, err := tx.Exec(ctx, "UPDATE account SET balance = balance + $1 WHERE id = $2", amount, account); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "INSERT INTO transfer VALUES ($1)", id)
		return err
	}, occ.WithMaxElapsed(time.Minute))
}

func (b *bank) count(t *testing.T, id int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var unknown *occ.CommitUnknownError
	switch {
	case err == nil:
		b.done.Add(1)
		b.sure[id] = true
		b.longest = max(b.longest, time.Since(b.last))
		b.last = time.Now()
	case errors.As(err, &unknown):
		b.unknown.Add(1)
		b.unsure[id] = true
	case t.Context().Err() == nil:
		t.Errorf("transfer %d: %v", id, err)
	}
}

// wait waits for n more transfers.
func (b *bank) wait(t *testing.T, n int64) {
	t.Helper()
	goal := b.done.Load() + n
	require.Eventually(t, func() bool { return b.done.Load() >= goal }, time.Minute, 10*time.Millisecond, "%+v %+v", b.connector.Endpoints(), b.pool.Stat().TotalConns())
}

// check compares what was reported with what is in the database.
func (b *bank) check(t *testing.T) {
	t.Helper()
	pool := harness.ClusterPool(t, b.cluster.Peer())
	var sum int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT sum(balance) FROM account").Scan(&sum))
	require.Equal(t, failoverAccounts*failoverDeposit, sum)
	rows, err := pool.Query(t.Context(), "SELECT id FROM transfer")
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	for _, id := range ids {
		require.True(t, b.sure[id] || b.unsure[id], "transfer %d was applied and reported as failed", id)
		delete(b.sure, id)
	}
	require.Empty(t, b.sure, "reported as applied")
}
