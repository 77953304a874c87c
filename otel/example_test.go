package otel_test

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql"
	dsqlotel "github.com/go-dsql/dsql/otel"
)

func Example() {
	run := func(ctx context.Context) error {
		tel, err := dsqlotel.New()
		if err != nil {
			return err
		}
		pool, err := dsql.NewPool(ctx, "<cluster ID>.dsql.us-east-1.on.aws", "", tel.Option())
		if err != nil {
			return err
		}
		defer pool.Close()
		gauges, err := tel.RecordPool(pool)
		if err != nil {
			return err
		}
		defer gauges.Unregister()
		return tel.RunTx(ctx, "transfer", pool, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE account SET balance = balance - 10 WHERE name = 'alice'")
			return err
		})
	}
	_ = run
}
