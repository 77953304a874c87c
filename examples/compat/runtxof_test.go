package compat

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// Each library's own transaction in occ.RunTxOf: a conflict is retried, and a COMMIT whose answer was
// cut is a CommitUnknownError.
func TestRunTxOf(t *testing.T) {
	const add = "UPDATE city SET population = population + 1 WHERE name = 'Quito'"
	for name, run := range map[string]func(ctx context.Context, db *sql.DB, before func()) error{
		"sqlx": func(ctx context.Context, db *sql.DB, before func()) error {
			begin := func(ctx context.Context) (*sqlx.Tx, error) { return sqlx.NewDb(db, "pgx").BeginTxx(ctx, nil) }
			return occ.RunTxOf(ctx, begin, func(tx *sqlx.Tx) error {
				_, err := tx.ExecContext(ctx, add)
				before()
				return err
			})
		},
		"bun": func(ctx context.Context, db *sql.DB, before func()) error {
			begin := func(ctx context.Context) (bun.Tx, error) { return bun.NewDB(db, pgdialect.New()).BeginTx(ctx, nil) }
			return occ.RunTxOf(ctx, begin, func(tx bun.Tx) error {
				_, err := tx.NewUpdate().Table("city").Set("population = population + 1").Where("name = ?", "Quito").Exec(ctx)
				before()
				return err
			})
		},
		"ent": func(ctx context.Context, db *sql.DB, before func()) error { // *ent.Tx has the same methods
			begin := func(ctx context.Context) (dialect.Tx, error) { return entsql.OpenDB(dialect.Postgres, db).Tx(ctx) }
			return occ.RunTxOf(ctx, begin, func(tx dialect.Tx) error {
				err := tx.Exec(ctx, add, []any{}, nil)
				before()
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			c := dsqltest.Start(t)
			db, err := dsql.OpenDB(ctx, c.Endpoint(), c.Region(), c.Options()...)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, statement := range []string{createCity, "INSERT INTO city VALUES ('Quito', 0)"} {
				if _, err := db.ExecContext(ctx, statement); err != nil {
					t.Fatal(err)
				}
			}
			calls := 0
			c.ConflictNext(1)
			if err := run(ctx, db, func() { calls++ }); err != nil || calls != 2 {
				t.Fatal(calls, err)
			}

			c.CutAtCommit(dsqltest.AfterApplied)
			err = run(ctx, db, func() { calls++ })
			var unknown *occ.CommitUnknownError
			if !errors.As(err, &unknown) || calls != 3 {
				t.Fatal(calls, err)
			}
			var population int
			if err := db.QueryRowContext(ctx, "SELECT population FROM city").Scan(&population); err != nil || population != 2 {
				t.Fatal(population, err)
			}
		})
	}
}
