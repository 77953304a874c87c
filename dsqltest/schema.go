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

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/schema"
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

// ApplySchema applies the files *.sql in the root of fsys to the cluster, as admin, with
// [dsql.ApplySchema], which says what the files may contain.
//
// A schema is executed once for each process and content. Clusters that no client has connected to
// get a copy, which takes milliseconds. Sessions that were already open see the change as a schema
// conflict, as on DSQL.
func (c *Cluster) ApplySchema(ctx context.Context, fsys fs.FS) error {
	files, err := schema.Read(fsys)
	if err != nil {
		return fmt.Errorf("dsqltest: %w", err)
	}
	units, err := schema.Parse(files)
	if err != nil {
		return fmt.Errorf("dsqltest: %w", err)
	}
	if c.kept != nil {
		return c.applyKept(ctx, files, units)
	}
	if !c.shared.changed.Swap(true) && c.proxy.IfUnused(func() {}) {
		template, err := c.schemaTemplate(ctx, files, units)
		if err != nil {
			return err
		}
		copied := c.proxy.IfUnused(func() { err = c.server.ReplaceDatabase(ctx, c.database, template.database) })
		if err != nil {
			return fmt.Errorf("dsqltest: copying the schema: %w", err)
		}
		if copied {
			c.proxy.AddFunctions(template.functions)
			return nil
		}
	}
	return c.applyUnits(ctx, units)
}

// schemaTemplate is the database of a schema that is copied from.
type schemaTemplate struct {
	mu        sync.Mutex
	database  string // empty: not made yet
	functions []string
}

var schemaTemplates sync.Map // *schemaTemplate by hash of the schema

// schemaTemplate returns what to copy and creates it if there is none.
func (c *Cluster) schemaTemplate(ctx context.Context, files map[string]string, units []schema.Unit) (*schemaTemplate, error) {
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
		return template, nil
	}
	var opts []Option
	for _, role := range c.roles {
		opts = append(opts, WithRole(role))
	}
	maker, err := Run(ctx, opts...)
	if err != nil {
		return nil, err
	}
	if err := maker.applyUnits(ctx, units); err != nil {
		return nil, errors.Join(err, maker.Close())
	}
	maker.proxy.Close() // its database stays, until the process ends
	if err := maker.removeFiles(); err != nil {
		return nil, err
	}
	template.database, template.functions = maker.database, maker.proxy.Functions()
	return template, nil
}

// applyUnits executes a schema, or a part of one.
func (c *Cluster) applyUnits(ctx context.Context, units []schema.Unit) error {
	conn, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	if err := schema.Apply(ctx, conn, units); err != nil {
		return fmt.Errorf("dsqltest: %w", err)
	}
	return nil
}
