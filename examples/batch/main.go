// Command batch loads and deletes 10,000 rows, in batches under DSQL's limit of 3,000 rows per
// transaction.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

const (
	rows  = 10_000
	batch = 2_500
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		cluster.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	c, err := cluster.Open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	pool, err := dsql.NewPool(ctx, c.Endpoint, c.Region, c.Options...)
	if err != nil {
		return err
	}
	defer pool.Close()

	_, err = pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS batch_item (id int PRIMARY KEY, name text NOT NULL)")
	if err != nil {
		return err
	}
	for first := 1; first <= rows; first += batch {
		if err := load(ctx, pool, first, min(first+batch-1, rows)); err != nil {
			return err
		}
	}
	var n int
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM batch_item").Scan(&n); err != nil {
		return err
	}
	fmt.Fprintf(out, "loaded %d rows in batches of %d\n", n, batch)

	deleted, err := deleteAll(ctx, pool)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "deleted %d rows\n", deleted)
	_, err = pool.Exec(ctx, "DROP TABLE batch_item")
	return err
}

// load writes one batch. It is idempotent: rows that an interrupted run wrote are skipped.
func load(ctx context.Context, pool *pgxpool.Pool, first, last int) error {
	return occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		ids := make([]int32, 0, batch)
		names := make([]string, 0, batch)
		for id := first; id <= last; id++ {
			ids = append(ids, int32(id))
			names = append(names, fmt.Sprintf("item %d", id))
		}
		_, err := tx.Exec(ctx, "INSERT INTO batch_item SELECT * FROM unnest($1::int[], $2::text[]) ON CONFLICT DO NOTHING", ids, names)
		return err
	})
}

// deleteAll deletes in batches, which it selects by key.
func deleteAll(ctx context.Context, pool *pgxpool.Pool) (total int64, err error) {
	for {
		n, err := occ.RunTxValue(ctx, pool, func(tx pgx.Tx) (int64, error) {
			tag, err := tx.Exec(ctx, "DELETE FROM batch_item WHERE id IN (SELECT id FROM batch_item ORDER BY id LIMIT $1)", batch)
			return tag.RowsAffected(), err
		})
		if err != nil || n == 0 {
			return total, err
		}
		total += n
	}
}
