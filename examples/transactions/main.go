// Command transactions transfers money between accounts from 32 concurrent workers with RunTx, and
// checks that the sum is exact.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

const (
	accounts  = 5
	each      = 1000
	workers   = 32
	transfers = 10 // per worker
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		cluster.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
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

	if err := open(ctx, pool); err != nil {
		return err
	}
	var retries atomic.Int64
	if err := work(ctx, pool, &retries); err != nil {
		return err
	}
	var sum int64
	if err := pool.QueryRow(ctx, "SELECT sum(balance) FROM transactions_account").Scan(&sum); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d transfers by %d workers, %d retries\n", workers*transfers, workers, retries.Load())
	fmt.Fprintf(out, "the accounts hold %d, as before\n", sum)
	_, err = pool.Exec(ctx, "DROP TABLE transactions_account")
	return err
}

// open creates the accounts, after removing those of an earlier run.
func open(ctx context.Context, pool *pgxpool.Pool) error {
	for _, ddl := range []string{
		"DROP TABLE IF EXISTS transactions_account",
		"CREATE TABLE transactions_account (id int PRIMARY KEY, balance bigint NOT NULL)",
	} {
		err := occ.Retry(ctx, func(ctx context.Context) error {
			_, err := pool.Exec(ctx, ddl)
			return err
		})
		if err != nil {
			return err
		}
	}
	return occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO transactions_account SELECT id, $1 FROM generate_series(1, $2::int) id", each, accounts)
		return err
	})
}

// work runs the transfers of all workers.
func work(ctx context.Context, pool *pgxpool.Pool, retries *atomic.Int64) error {
	count := occ.WithOnRetry(func(occ.RetryEvent) { retries.Add(1) })
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for i := range workers {
		wait.Go(func() {
			for range transfers {
				from := 1 + rand.IntN(accounts)
				to := 1 + (from+rand.IntN(accounts-1))%accounts
				if errs[i] = transfer(ctx, pool, from, to, 1+rand.Int64N(20), count); errs[i] != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func transfer(ctx context.Context, pool *pgxpool.Pool, from, to int, amount int64, opts ...occ.RetryOption) error {
	return occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE transactions_account SET balance = balance - $1 WHERE id = $2", amount, from)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE transactions_account SET balance = balance + $1 WHERE id = $2", amount, to)
		return err
	}, opts...)
}
