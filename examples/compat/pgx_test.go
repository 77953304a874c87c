package compat

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/occ"
)

const createCity = "CREATE TABLE city (name text PRIMARY KEY, population bigint NOT NULL)"

func TestPgxCRUD(t *testing.T) {
	pool, ctx := newPool(t), t.Context()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(createCity)
	exec("INSERT INTO city VALUES ($1, $2)", "Quito", 1763000)
	exec("INSERT INTO city VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET population = excluded.population", "Quito", 1763001)
	exec("UPDATE city SET population = population + $1 WHERE name = ANY($2)", 1, []string{"Quito", "Lagos"})
	rows, err := pool.Query(ctx, "SELECT name, population FROM city")
	if err != nil {
		t.Fatal(err)
	}
	cities, err := pgx.CollectRows(rows, pgx.RowToStructByName[city])
	if err != nil || len(cities) != 1 || cities[0] != (city{"Quito", 1763002}) {
		t.Fatal(cities, err)
	}
	exec("DELETE FROM city WHERE name = $1", "Quito")
}

// A batch is one round trip. In RunTx it is one transaction, which is retried.
func TestPgxBatch(t *testing.T) {
	pool, ctx := newPool(t), t.Context()
	if _, err := pool.Exec(ctx, createCity); err != nil {
		t.Fatal(err)
	}
	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		for i := range 100 {
			batch.Queue("INSERT INTO city VALUES ($1, $2)", fmt.Sprintf("city %d", i), i)
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM city").Scan(&n); err != nil || n != 100 {
		t.Fatal(n, err)
	}
}

// CopyFrom sends COPY FROM STDIN in binary, up to 3,000 rows per transaction.
func TestPgxCopyFrom(t *testing.T) {
	pool, ctx := newPool(t), t.Context()
	if _, err := pool.Exec(ctx, createCity); err != nil {
		t.Fatal(err)
	}
	load := func(first, n int) error {
		return occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"city"}, []string{"name", "population"},
				pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{fmt.Sprintf("city %d", first+i), i}, nil }))
			return err
		})
	}
	if err := load(0, 3000); err != nil {
		t.Fatal(err)
	}
	var refused *pgconn.PgError
	if err := load(3000, 3001); !errors.As(err, &refused) || refused.Code != "54000" {
		t.Fatal(err)
	}
}
