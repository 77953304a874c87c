// Command databasesql uses database/sql: OpenDB, RunSQLTx, a prepared statement.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
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
	db, err := dsql.OpenDB(ctx, c.Endpoint, c.Region, c.Options...)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(10)

	_, err = db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS databasesql_visit (page text PRIMARY KEY, visits bigint NOT NULL)")
	if err != nil {
		return err
	}
	for _, page := range []string{"home", "about", "home", "home"} {
		if err := visit(ctx, db, page); err != nil {
			return err
		}
	}
	if err := report(ctx, db, out, "home", "about"); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "DROP TABLE databasesql_visit")
	return err
}

func visit(ctx context.Context, db *sql.DB, page string) error {
	return occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO databasesql_visit (page, visits) VALUES ($1, 1)
			ON CONFLICT (page) DO UPDATE SET visits = databasesql_visit.visits + 1`, page)
		return err
	})
}

func report(ctx context.Context, db *sql.DB, out io.Writer, pages ...string) error {
	stmt, err := db.PrepareContext(ctx, "SELECT visits FROM databasesql_visit WHERE page = $1")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, page := range pages {
		var visits int64
		if err := stmt.QueryRowContext(ctx, page).Scan(&visits); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d\n", page, visits)
	}
	return nil
}
