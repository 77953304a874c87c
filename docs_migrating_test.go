package dsql_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

// What docs/migrating.md has after each change.
var (
	_ = func(ctx context.Context, endpoint string) error {
		pool, err := dsql.NewPool(ctx, endpoint, "", dsql.WithUser("app"), dsql.WithProfile("dev"))
		if err != nil {
			return err
		}
		defer pool.Close()
		return occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE account SET balance = balance - 1 WHERE name = 'alice'")
			return err
		})
	}
	_ = func(ctx context.Context, endpoint, region string, awsConfig aws.Config) (*pgxpool.Pool, error) {
		return dsql.NewPool(ctx, endpoint, region, dsql.WithUser("app"), dsql.WithAWSConfig(awsConfig),
			dsql.WithPoolConfig(func(p *pgxpool.Config) error {
				p.MaxConns = 20
				return nil
			}))
	}
	_ = func(ctx context.Context, endpoint string, names []string) error {
		db, err := dsql.OpenDB(ctx, endpoint, "", dsql.WithUser("app"))
		if err != nil {
			return err
		}
		defer db.Close()
		return occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM session WHERE name = ANY($1)", names)
			return err
		})
	}
	_ = func(ctx context.Context, endpoint, region string, awsConfig aws.Config) (*pgx.Conn, error) {
		return dsql.Connect(ctx, endpoint, region, dsql.WithUser("app"), dsql.WithAWSConfig(awsConfig), dsql.WithRuntimeParam("search_path", "app"))
	}
	_ = func(ctx context.Context, pool *pgxpool.Pool) error {
		return occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE account SET balance = balance - 1 WHERE name = 'alice'")
			return err
		}, occ.WithTxOptions(pgx.TxOptions{AccessMode: pgx.ReadWrite}))
	}
)

// The result of every diff in the documentation is compiled above.
func TestDiffsOfTheDocumentationAreCompiled(t *testing.T) {
	source, err := os.ReadFile("docs_migrating_test.go")
	require.NoError(t, err)
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, block := range regexp.MustCompile("(?ms)^```diff\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
			found++
			var after strings.Builder
			for line := range strings.Lines(block[1]) {
				if line[0] != '-' {
					after.WriteString(line[1:])
				}
			}
			require.Contains(t, unindented(string(source)), unindented(after.String()), page)
		}
	}
	require.Equal(t, 5, found)
}
