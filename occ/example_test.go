package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// openExample opens a pool on a local cluster with two accounts.
func openExample(ctx context.Context) (*pgxpool.Pool, func()) {
	c, err := dsqltest.Run(ctx)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := dsql.NewPool(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	for _, statement := range []string{
		"CREATE TABLE account (name text PRIMARY KEY, balance bigint NOT NULL)",
		"CREATE TABLE transfer (request text PRIMARY KEY, amount bigint NOT NULL)",
		"INSERT INTO account VALUES ('alice', 100), ('bob', 0)",
	} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			log.Fatal(err)
		}
	}
	return pool, func() { pool.Close(); c.Close() }
}

func ExampleRunTx() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE account SET balance = balance - $1 WHERE name = $2", 30, "alice")
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE account SET balance = balance + $1 WHERE name = $2", 30, "bob")
		return err
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleRunTxValue() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	balance, err := occ.RunTxValue(ctx, pool, func(tx pgx.Tx) (balance int64, err error) {
		err = tx.QueryRow(ctx, "UPDATE account SET balance = balance + 5 WHERE name = 'bob' RETURNING balance").Scan(&balance)
		return balance, err
	})
	fmt.Println(balance, err)
	// Output: 5 <nil>
}

func ExampleRetry() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	var names []string
	err := occ.Retry(ctx, func(ctx context.Context) (err error) {
		rows, err := pool.Query(ctx, "SELECT name FROM account ORDER BY name")
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	fmt.Println(names, err)
	// Output: [alice bob] <nil>
}

func ExampleWithSerialKey() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	// Every transfer writes alice's row: once two have met, they queue here.
	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE account SET balance = balance - 1 WHERE name = 'alice'")
		return err
	}, occ.WithSerialKey("account/alice"))
	fmt.Println(err)
	// Output: <nil>
}

func ExampleWithOnRetry() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE account SET balance = balance + 1 WHERE name = 'bob'")
		return err
	}, occ.WithOnRetry(func(e occ.RetryEvent) {
		log.Printf("attempt %d failed: %v; retrying in %v", e.Attempt, e.Err, e.Delay)
	}))
	fmt.Println(err)
	// Output: <nil>
}

// transfer moves money once for each request, however often it is called.
func transfer(ctx context.Context, pool *pgxpool.Pool, request string, amount int64) error {
	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "INSERT INTO transfer (request, amount) VALUES ($1, $2) ON CONFLICT DO NOTHING", request, amount)
		if err != nil || tag.RowsAffected() == 0 {
			return err // nil: an earlier call has done it
		}
		_, err = tx.Exec(ctx, "UPDATE account SET balance = balance - $1 WHERE name = 'alice'", amount)
		return err
	})
	var unknown *occ.CommitUnknownError
	if !errors.As(err, &unknown) {
		return err
	}
	var applied bool
	lookup := occ.Retry(ctx, func(ctx context.Context) error {
		return pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM transfer WHERE request = $1)", request).Scan(&applied)
	})
	if lookup != nil {
		return errors.Join(err, lookup) // still unknown: look again later
	}
	if applied {
		return nil
	}
	return transfer(ctx, pool, request, amount)
}

func ExampleCommitUnknownError() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	err := transfer(ctx, pool, "request-1", 30)
	fmt.Println(err)
	// Output: <nil>
}

// The transaction writes a row with a unique key, and the check looks for it.
func ExampleWithCommitCheck() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	const request = "request-2"
	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "INSERT INTO transfer VALUES ($1, 30) ON CONFLICT DO NOTHING", request)
		if err != nil || tag.RowsAffected() == 0 {
			return err // nil: an earlier run has done it
		}
		_, err = tx.Exec(ctx, "UPDATE account SET balance = balance - 30 WHERE name = 'alice'")
		return err
	}, occ.WithCommitCheck(func(ctx context.Context) (applied bool, err error) {
		err = pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM transfer WHERE request = $1)", request).Scan(&applied)
		return applied, err
	}))
	fmt.Println(err)
	// Output: <nil>
}

func ExampleRunBatch() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	err := occ.RunBatch(ctx, pool, func(b *pgx.Batch) error {
		b.Queue("UPDATE account SET balance = balance - $1 WHERE name = 'alice'", 30)
		b.Queue("UPDATE account SET balance = balance + $1 WHERE name = 'bob'", 30)
		return nil
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleRunSQLTx() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()
	db := stdlib.OpenDBFromPool(pool)

	err := occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE account SET balance = balance + 1 WHERE name = 'bob'")
		return err
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleRunTxOf() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()
	db := stdlib.OpenDBFromPool(pool)

	// With sqlx, bun or ent, begin returns their transaction.
	err := occ.RunTxOf(ctx, func(ctx context.Context) (*sql.Tx, error) {
		return db.BeginTx(ctx, nil)
	}, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE account SET balance = balance + 1 WHERE name = 'bob'")
		return err
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleWithIdempotent() {
	ctx := context.Background()
	pool, done := openExample(ctx)
	defer done()

	var balance int64
	err := occ.Retry(ctx, func(ctx context.Context) error {
		return pool.QueryRow(ctx, "SELECT balance FROM account WHERE name = 'alice'").Scan(&balance)
	}, occ.WithIdempotent())
	fmt.Println(balance, err)
	// Output: 100 <nil>
}

func ExampleIsConflict() {
	conflict := &pgconn.PgError{Code: "40001", Message: "change conflicts with another transaction (OC000)"}
	fmt.Println(occ.IsConflict(fmt.Errorf("save: %w", conflict)), occ.ConflictKind(conflict))
	fmt.Println(occ.IsConflict(fmt.Errorf("save: %v", conflict))) // flattened
	// Output:
	// true OC000
	// false
}
