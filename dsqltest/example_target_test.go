package dsqltest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

func ExampleCluster_ConflictOn() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE TABLE account (id text PRIMARY KEY, balance int)"); err != nil {
		log.Fatal(err)
	}
	if err := c.ConflictOn(2, "account", "alice"); err != nil {
		log.Fatal(err)
	}
	for _, id := range []string{"bob", "alice"} {
		attempts := 0
		err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
			attempts++
			_, err := tx.Exec(ctx, "INSERT INTO account VALUES ($1, 0)", id)
			return err
		})
		fmt.Println(id, attempts, err)
	}
	// Output:
	// bob 1 <nil>
	// alice 3 <nil>
}

func ExampleCluster_HoldIndexJobs() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE TABLE city (id int PRIMARY KEY, name text)"); err != nil {
		log.Fatal(err)
	}
	if err := c.HoldIndexJobs(); err != nil {
		log.Fatal(err)
	}
	var job, status string
	if err := pool.QueryRow(ctx, "CREATE INDEX ASYNC ON city (name)").Scan(&job); err != nil {
		log.Fatal(err)
	}
	if err := pool.QueryRow(ctx, "SELECT status FROM sys.jobs WHERE job_id = $1", job).Scan(&status); err != nil {
		log.Fatal(err)
	}
	fmt.Println(status)
	// Output: processing
}

func ExampleCluster_FailIndexJobs() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE TABLE city (id int PRIMARY KEY, name text)"); err != nil {
		log.Fatal(err)
	}
	if err := c.FailIndexJobs("Found duplicate key while validating index for UCVs"); err != nil {
		log.Fatal(err)
	}
	var job string
	if err := pool.QueryRow(ctx, "CREATE UNIQUE INDEX ASYNC ON city (name)").Scan(&job); err != nil {
		log.Fatal(err)
	}
	var succeeded bool
	if err := pool.QueryRow(ctx, "CALL sys.wait_for_job($1)", job).Scan(&succeeded); err != nil {
		log.Fatal(err)
	}
	fmt.Println(succeeded)
	// Output: false
}

func ExampleCluster_Peer() {
	ctx := context.Background()
	c, pool := open(ctx, dsqltest.WithPeer("us-east-2"))
	defer c.Close()
	defer pool.Close()
	peer, err := dsql.NewPool(ctx, c.Peer().Endpoint(), c.Peer().Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()

	c.Cut()
	fmt.Println(pool.Ping(ctx) != nil, peer.Ping(ctx))
	c.Restore()
	fmt.Println(pool.Ping(ctx))
	// Output:
	// true <nil>
	// <nil>
}

func ExampleCluster_Log() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	_, _ = pool.Exec(ctx, "VACUUM")
	for _, e := range c.Log() {
		if e.Code != "" {
			fmt.Println(e.Code, e.Message)
		} else {
			fmt.Println(e.SQL)
		}
	}
	// Output:
	// VACUUM
	// 0A000 unsupported VACUUM statement
}

func ExampleCluster_URL() {
	ctx := context.Background()
	c, pool := open(ctx)
	defer c.Close()
	defer pool.Close()

	program := exec.CommandContext(ctx, "echo", c.URL()) // takes a URL; its environment signs the token
	program.Env = append(os.Environ(), c.Env()...)
	out, err := program.Output()
	fmt.Println(strings.HasPrefix(string(out), "postgres://admin@"+c.Endpoint()+"/postgres?hostaddr=127.0.0.1&port="), err)
	// Output: true <nil>
}

func ExampleCluster_Config() {
	ctx := context.Background()
	c, pool := open(ctx, dsqltest.WithRole("app"))
	defer c.Close()
	defer pool.Close()

	cfg := c.Config()
	cfg.User = "app"
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	app, err := connector.NewPool(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	fmt.Println(app.Ping(ctx))
	// Output: <nil>
}
