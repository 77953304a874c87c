package dsqltest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// open runs a cluster and opens a pool on it.
func open(ctx context.Context, opts ...dsqltest.Option) (*dsqltest.Cluster, *pgxpool.Pool) {
	c, err := dsqltest.Run(ctx, opts...)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := dsql.NewPool(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	return c, pool
}

func ExampleCluster_ConflictNext() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.ConflictNext(2)
	attempts := 0
	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		attempts++
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	})
	fmt.Println(attempts, err)
	// Output: 3 <nil>
}

func ExampleCluster_SchemaConflictNext() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.SchemaConflictNext(1)
	tx, err := pool.Begin(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(occ.ConflictKind(tx.Commit(ctx)))
	// Output: OC001
}

func ExampleCluster_CutAtCommit() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.CutAtCommit(dsqltest.AfterApplied)
	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "CREATE TABLE done (id int)")
		return err
	})
	var unknown *occ.CommitUnknownError
	fmt.Println(errors.As(err, &unknown))
	var there bool
	if err := pool.QueryRow(ctx, "SELECT to_regclass('done') IS NOT NULL").Scan(&there); err != nil {
		log.Fatal(err)
	}
	fmt.Println(there)
	// Output:
	// true
	// true
}

func ExampleCluster_CutConnections() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	if err := pool.Ping(ctx); err != nil {
		log.Fatal(err)
	}
	c.CutConnections()
	_, err := pool.Exec(ctx, "SELECT 1") // on a connection that was idle for an instant only
	fmt.Println(err != nil)
	// Output: true
}

func ExampleCluster_ExpireSessions() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	tx, err := pool.Begin(ctx)
	if err != nil {
		log.Fatal(err)
	}
	c.ExpireSessions()
	fmt.Println(tx.Commit(ctx)) // a transaction may end first
	// Output: <nil>
}

func ExampleCluster_RefuseConnections() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.RefuseConnections("53300")
	fmt.Println(dsql.IsConnectLimit(pool.Ping(ctx)))
	c.RefuseConnections("")
	fmt.Println(pool.Ping(ctx))
	// Output:
	// true
	// <nil>
}

func ExampleCluster_SetWaking() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.SetWaking(100 * time.Millisecond)
	err := occ.RunTx(ctx, pool, func(pgx.Tx) error { return nil })
	fmt.Println(err)
	// Output: <nil>
}

func ExampleCluster_Pause() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.Pause()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	fmt.Println(errors.Is(pool.Ping(short), context.DeadlineExceeded))
	c.Resume()
	fmt.Println(pool.Ping(ctx))
	// Output:
	// true
	// <nil>
}

func ExampleCluster_SetLatency() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	if err := pool.Ping(ctx); err != nil {
		log.Fatal(err)
	}
	c.SetLatency(20 * time.Millisecond)
	start := time.Now()
	if _, err := pool.Exec(ctx, "SELECT 1"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(time.Since(start) >= 20*time.Millisecond)
	// Output: true
}

func ExampleCluster_SetClockOffset() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.SetClockOffset(time.Hour) // the cluster's, so every token has expired
	fmt.Println(dsql.IsAccessDenied(pool.Ping(ctx)))
	// Output: true
}

func ExampleCluster_Stats() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.ConflictNext(1)
	if err := occ.RunTx(ctx, pool, func(pgx.Tx) error { return nil }); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", c.Stats())
	// Output: {Connects:1 Begins:2 Commits:1 Rollbacks:0 Conflicts:1 Retries:1}
}

func ExampleWithConnectQuota() {
	ctx := context.Background()
	c, pool := open(ctx, dsqltest.WithConnectQuota(100, 1000)) // DSQL's own quota
	defer c.Close()
	defer pool.Close()
	fmt.Println(pool.Ping(ctx))
	// Output: <nil>
}

func ExampleWithConnectionLimit() {
	ctx := context.Background()
	c, pool := open(ctx, dsqltest.WithConnectionLimit(1))
	defer c.Close()
	defer pool.Close()

	held, err := pool.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer held.Release()
	fmt.Println(dsql.IsConnectLimit(pool.Ping(ctx)))
	// Output: true
}

func ExampleCluster_Resume() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.Pause()
	time.AfterFunc(50*time.Millisecond, c.Resume)
	fmt.Println(pool.Ping(ctx)) // waits
	// Output: <nil>
}

func ExampleCluster_Cut() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.Cut()
	fmt.Println(pool.Ping(ctx) != nil)
	c.Restore()
	fmt.Println(pool.Ping(ctx))
	// Output:
	// true
	// <nil>
}

func ExampleCluster_BlackHole() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.BlackHole()
	defer c.Restore()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	fmt.Println(errors.Is(pool.Ping(short), context.DeadlineExceeded))
	// Output: true
}

func ExampleCluster_Restore() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	c.Cut()
	time.AfterFunc(50*time.Millisecond, c.Restore)
	err := occ.RunTx(ctx, pool, func(pgx.Tx) error { return nil }) // retries the connect
	fmt.Println(err)
	// Output: <nil>
}
