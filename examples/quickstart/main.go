// Command quickstart opens a pool, creates a table, writes three rows and prints them. Without
// DSQL_ENDPOINT it runs on a local cluster.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		report(os.Stderr, err)
		os.Exit(1)
	}
}

// report prints err and what to do about it.
func report(out io.Writer, err error) {
	fmt.Fprintln(out, err)
	if text := dsql.Explain(err); !strings.Contains(err.Error(), text) {
		fmt.Fprintf(out, "\n%s\n", text)
	}
}

func run(ctx context.Context, out io.Writer) error {
	if endpoint := os.Getenv("DSQL_ENDPOINT"); endpoint != "" {
		return show(ctx, out, endpoint, os.Getenv("DSQL_REGION"))
	}
	local, err := dsqltest.Run(ctx)
	if err != nil {
		return fmt.Errorf("starting a local cluster: %w", err)
	}
	defer local.Close()
	return show(ctx, out, local.Endpoint(), local.Region(), local.Options()...)
}

func show(ctx context.Context, out io.Writer, endpoint, region string, opts ...dsql.Option) error {
	// For a real cluster this line is enough:
	//	pool, err := dsql.NewPool(ctx, "<cluster ID>.dsql.us-east-1.on.aws", "")
	pool, err := dsql.NewPool(ctx, endpoint, region, opts...)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil { // the first connection
		return err
	}
	fmt.Fprintf(out, "connected to %s\n\n", endpoint)
	return cities(ctx, out, pool)
}

func cities(ctx context.Context, out io.Writer, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS quickstart_city (name text PRIMARY KEY, people int NOT NULL)`)
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, `INSERT INTO quickstart_city (name, people) VALUES ('Athens', 643), ('Dublin', 593), ('Oslo', 709)
		ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	rows, err := pool.Query(ctx, `SELECT name, people FROM quickstart_city ORDER BY people DESC`)
	if err != nil {
		return err
	}

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "city\tthousands")
	var name string
	var people int
	_, err = pgx.ForEachRow(rows, []any{&name, &people}, func() error {
		_, err := fmt.Fprintf(table, "%s\t%d\n", name, people)
		return err
	})
	if err != nil {
		return err
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = pool.Exec(ctx, `DROP TABLE quickstart_city`)
	return err
}
