// Command customrole creates a custom database role with only the privileges that a service needs,
// grants it to an IAM role, and connects with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

const insufficientPrivilege = "42501"

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
	if c.Principal == "" {
		return errors.New("set DSQL_PRINCIPAL to the ARN of the IAM role that your credentials belong to, arn:aws:iam::<account>:role/<name>")
	}
	admin, err := dsql.NewPool(ctx, c.Endpoint, c.Region, c.Options...)
	if err != nil {
		return err
	}
	defer admin.Close()

	if err := apply(ctx, admin, grants(c.Principal)...); err != nil {
		return err
	}
	if err := work(ctx, c, out); err != nil {
		return err
	}
	return apply(ctx, admin, revocations(c.Principal)...)
}

// grants returns the statements that create the role and a schema in which it can read and add
// orders. A custom role cannot create objects in the schema public.
func grants(principal string) []string {
	return []string{
		"CREATE ROLE customrole_app WITH LOGIN",
		"AWS IAM GRANT customrole_app TO " + quote(principal),
		"CREATE SCHEMA customrole",
		"CREATE TABLE customrole.orders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), item text NOT NULL)",
		"GRANT USAGE ON SCHEMA customrole TO customrole_app",
		"GRANT SELECT, INSERT ON customrole.orders TO customrole_app",
	}
}

// revocations returns the statements that undo grants. A role cannot be dropped while it is granted
// to an IAM role or has privileges.
func revocations(principal string) []string {
	return []string{
		"DROP TABLE customrole.orders",
		"DROP SCHEMA customrole",
		"AWS IAM REVOKE customrole_app FROM " + quote(principal),
		"DROP ROLE customrole_app",
	}
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// apply runs each statement in its own transaction, as DSQL requires for DDL.
func apply(ctx context.Context, pool *pgxpool.Pool, statements ...string) error {
	for _, sql := range statements {
		err := occ.Retry(ctx, func(ctx context.Context) error {
			_, err := pool.Exec(ctx, sql)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// work does what the service does, with its role.
func work(ctx context.Context, c *cluster.Cluster, out io.Writer) error {
	options := append(slices.Clone(c.Options), dsql.WithUser("customrole_app"), dsql.WithRuntimeParam("search_path", "customrole"))
	app, err := dsql.NewPool(ctx, c.Endpoint, c.Region, options...)
	if err != nil {
		return err
	}
	defer app.Close()
	err = occ.RunTx(ctx, app, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO orders (item) VALUES ($1), ($2)", "tea", "cake")
		return err
	})
	if err != nil {
		return err
	}
	var user string
	var n int
	if err := app.QueryRow(ctx, "SELECT current_user, count(*) FROM orders").Scan(&user, &n); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s sees %d orders\n", user, n)

	_, err = app.Exec(ctx, "DELETE FROM orders")
	if err == nil {
		return errors.New("the role was able to delete orders")
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != insufficientPrivilege {
		return fmt.Errorf("deleting orders: %w", err)
	}
	fmt.Fprintf(out, "%s cannot delete them: %s\n", user, refused.Message)
	return nil
}
