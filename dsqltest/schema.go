package dsqltest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

// Schema applies the files *.sql in the root of fsys to the cluster, as [Cluster.ApplySchema] does.
// The test fails at the first error, which names the file and the statement.
//
//	//go:embed schema/*.sql
//	var files embed.FS
//	…
//	schema, _ := fs.Sub(files, "schema")
//	dsqltest.Schema(t, cluster, schema)
func Schema(tb testing.TB, cluster *Cluster, fsys fs.FS) {
	tb.Helper()
	if err := cluster.ApplySchema(tb.Context(), fsys); err != nil {
		tb.Fatal(err)
	}
}

// ApplySchema applies the files *.sql in the root of fsys to the cluster, as admin and in the order
// of their names, and waits for the indexes that they build. Each statement is a transaction of its
// own, as DSQL requires of DDL, except those from BEGIN to COMMIT, which are one. Each transaction
// is retried on conflict.
//
// Of files for goose, sql-migrate and dbmate only the part for going up is applied; of those for
// golang-migrate only *.up.sql. They are applied in the order of their versions, and no table of
// applied versions is written. Files for Flyway, Liquibase and tern are refused.
//
// A schema is executed once for each process and content. Clusters that no client has connected to
// get a copy, which takes milliseconds. Sessions that were already open see the change as a schema
// conflict, as on DSQL.
func (c *Cluster) ApplySchema(ctx context.Context, fsys fs.FS) error {
	files, err := readSchema(fsys)
	if err != nil {
		return err
	}
	units, err := parseSchema(files)
	if err != nil {
		return err
	}
	if !c.shared.changed.Swap(true) && c.proxy.IfUnused(func() {}) {
		template, err := c.schemaTemplate(ctx, files, units)
		if err != nil {
			return err
		}
		copied := c.proxy.IfUnused(func() { err = c.server.ReplaceDatabase(ctx, c.database, template) })
		if err != nil {
			return fmt.Errorf("dsqltest: copying the schema: %w", err)
		}
		if copied {
			return nil
		}
	}
	return c.applyUnits(ctx, units)
}

// schemaTemplate is the database of a schema that is copied from.
type schemaTemplate struct {
	mu       sync.Mutex
	database string // empty: not made yet
}

var schemaTemplates sync.Map // *schemaTemplate by hash of the schema

// schemaTemplate returns the database to copy and creates it if there is none.
func (c *Cluster) schemaTemplate(ctx context.Context, files map[string]string, units []unit) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q", c.roles)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%q%q", name, files[name])
	}
	made, _ := schemaTemplates.LoadOrStore([sha256.Size]byte(h.Sum(nil)), &schemaTemplate{})
	template := made.(*schemaTemplate)
	template.mu.Lock()
	defer template.mu.Unlock()
	if template.database != "" {
		return template.database, nil
	}
	var opts []Option
	for _, role := range c.roles {
		opts = append(opts, WithRole(role))
	}
	maker, err := Run(ctx, opts...)
	if err != nil {
		return "", err
	}
	if err := maker.applyUnits(ctx, units); err != nil {
		return "", errors.Join(err, maker.Close())
	}
	maker.proxy.Close() // its database stays, until the process ends
	if err := maker.removeFiles(); err != nil {
		return "", err
	}
	template.database = maker.database
	return template.database, nil
}

// applyUnits executes a schema and waits for its index builds.
func (c *Cluster) applyUnits(ctx context.Context, units []unit) error {
	conn, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for _, u := range units {
		if err := occ.Retry(ctx, func(ctx context.Context) error { return u.apply(ctx, conn) }); err != nil {
			return err
		}
	}
	return waitForJobs(ctx, conn)
}

// apply executes the statements. A constraint may have to wait for its index.
func (u unit) apply(ctx context.Context, conn *pgx.Conn) error {
	err := u.exec(ctx, conn)
	var told *pgconn.PgError
	if !errors.As(err, &told) || told.Code != "55000" {
		return err
	}
	if err := waitForJobs(ctx, conn); err != nil {
		return err
	}
	return u.exec(ctx, conn)
}

// exec executes the statements once.
func (u unit) exec(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range u.statements {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			if len(u.statements) > 1 && conn.PgConn().TxStatus() != 'I' {
				_, _ = conn.Exec(ctx, "ROLLBACK") // the next attempt begins again
			}
			return fmt.Errorf("dsqltest: %s: %.200s: %w", u.file, sql, err)
		}
	}
	return nil
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
