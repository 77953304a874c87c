// Command sqlc uses code that sqlc generated for pgx, in transactions that are retried on conflict.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/examples/sqlc/store"
	"github.com/go-dsql/dsql/occ"
)

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate

//go:embed schema.sql
var schema string // one statement: DSQL allows one DDL statement per transaction

//go:embed indexes.sql
var indexes string // not in sqlc.yaml: sqlc's parser refuses CREATE INDEX ASYNC

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

	for _, ddl := range []string{"DROP TABLE IF EXISTS sqlc_author", schema, indexes} {
		if err := apply(ctx, pool, ddl); err != nil {
			return err
		}
	}
	queries := store.New(pool)
	if err := write(ctx, pool, queries); err != nil {
		return err
	}
	authors, err := queries.ListAuthors(ctx)
	if err != nil {
		return err
	}
	for _, author := range authors {
		fmt.Fprintf(out, "%s: %d books\n", author.Name, author.Books)
	}
	return apply(ctx, pool, "DROP TABLE sqlc_author")
}

func apply(ctx context.Context, pool *pgxpool.Pool, ddl string) error {
	return occ.Retry(ctx, func(ctx context.Context) error {
		_, err := pool.Exec(ctx, ddl)
		return err
	})
}

// write adds two authors, and then a book to one of them.
func write(ctx context.Context, pool *pgxpool.Pool, queries *store.Queries) error {
	id, err := occ.RunTxValue(ctx, pool, func(tx pgx.Tx) (string, error) {
		queries := queries.WithTx(tx)
		if _, err := queries.CreateAuthor(ctx, store.CreateAuthorParams{Name: "Mary Shelley", Books: 7}); err != nil {
			return "", err
		}
		return queries.CreateAuthor(ctx, store.CreateAuthorParams{Name: "Jane Austen", Books: 5})
	})
	if err != nil {
		return err
	}
	return occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := queries.WithTx(tx).AddBooks(ctx, store.AddBooksParams{ID: id, Added: 1})
		return err
	})
}
