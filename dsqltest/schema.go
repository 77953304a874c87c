package dsqltest

import (
	"context"
	"fmt"
	"io/fs"
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
		if copied, err := c.copySchema(ctx, files, units); copied || err != nil {
			return err
		}
	}
	return c.applyUnits(ctx, units)
}

// copySchema switches an unused cluster to a copy of the schema's database. It reports false if a
// client connected first.
func (c *Cluster) copySchema(ctx context.Context, files map[string]string, units []schema.Unit) (bool, error) {
	source, err := c.schemaTemplate(ctx, files, units)
	if err != nil {
		return false, err
	}
	database, err := source.copy(ctx, c.server)
	if err != nil {
		return false, fmt.Errorf("dsqltest: copying the schema: %w", err)
	}
	copied := false
	c.proxy.IfUnused(func() {
		c.shared.replacing.Lock()
		defer c.shared.replacing.Unlock()
		if copied = !c.shared.targeted.Load(); !copied {
			return
		}
		c.proxy.SetDatabase(database)
		c.proxy.AddFunctions(source.functions)
		database, _ = c.shared.database.Swap(database).(string)
		source = c.shared.template
	})
	// The database that goes back is the cluster's old one, or the copy if a client was faster.
	return copied, source.giveBack(ctx, c.server, database)
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
