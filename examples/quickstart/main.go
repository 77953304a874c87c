// Command quickstart opens a pool, makes a table, writes three rows and prints
// them. Without DSQL_ENDPOINT it runs on a local cluster.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
)

func main() {
	log.SetFlags(0)
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	c, err := cluster.Open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()

	// With a cluster of your own, this line is all there is:
	//	pool, err := dsql.NewPool(ctx, "<cluster ID>.dsql.us-east-1.on.aws", "")
	pool, err := dsql.NewPool(ctx, c.Endpoint, c.Region, c.Options...)
	if err != nil {
		return err
	}
	defer pool.Close()
	fmt.Fprintf(out, "connected to %s\n\n", c.Endpoint)
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
