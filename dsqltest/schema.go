package dsqltest

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/dialect"
	"github.com/go-dsql/dsql/occ"
)

// Schema applies the files *.sql in the root of fsys to the cluster, as admin and in the order of
// their names, and waits for the indexes that they build. Each statement is a transaction of its
// own, as DSQL requires of DDL, and is retried on conflict. The test fails at the first error,
// which names the file and the statement.
//
//	//go:embed schema/*.sql
//	var files embed.FS
//	…
//	schema, _ := fs.Sub(files, "schema")
//	dsqltest.Schema(t, cluster, schema)
//
// Sessions that were already open see the change as a schema conflict, as on DSQL.
func Schema(tb testing.TB, cluster *Cluster, fsys fs.FS) {
	tb.Helper()
	if err := cluster.applySchema(tb.Context(), fsys); err != nil {
		tb.Fatal(err)
	}
}

func (c *Cluster) applySchema(ctx context.Context, fsys fs.FS) error {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return fmt.Errorf("dsqltest: listing the schema files: %w", err)
	}
	if len(names) == 0 {
		return fmt.Errorf("dsqltest: the schema must have files *.sql in its root")
	}
	slices.Sort(names)
	conn, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return fmt.Errorf("dsqltest: %w", err)
		}
		for _, sql := range dialect.Split(string(text)) {
			err := occ.Retry(ctx, func(ctx context.Context) error {
				_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
				return err
			})
			if err != nil {
				return fmt.Errorf("dsqltest: %s: %s: %w", name, sql, err)
			}
		}
	}
	return waitForJobs(ctx, conn)
}

// waitForJobs waits for all index builds and fails if one of them failed.
func waitForJobs(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT job_id FROM sys.jobs WHERE job_type = 'INDEX_BUILD'")
	if err != nil {
		return fmt.Errorf("dsqltest: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("dsqltest: %w", err)
	}
	for _, job := range jobs {
		var done bool
		if err := conn.QueryRow(ctx, "CALL sys.wait_for_job($1)", job).Scan(&done); err != nil {
			return fmt.Errorf("dsqltest: waiting for an index build: %w", err)
		}
		if !done {
			var details string
			_ = conn.QueryRow(ctx, "SELECT details FROM sys.jobs WHERE job_id = $1", job).Scan(&details)
			return fmt.Errorf("dsqltest: an index build failed: %s", details)
		}
	}
	return nil
}
