package dsqltest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/keep"
	"github.com/go-dsql/dsql/internal/postgres"
	"github.com/go-dsql/dsql/internal/schema"
)

// keptDatabase is the name of the database of a cluster whose data is kept.
const keptDatabase = "dsql_kept"

func init() {
	keep.Option = func(d *keep.Dir) any {
		return Option(func(cfg *config) error {
			identity := d.Identity()
			cfg.kept, cfg.id, cfg.region = d, identity.ClusterID, identity.Region
			cfg.credentials = aws.Credentials{AccessKeyID: identity.AccessKeyID, SecretAccessKey: identity.SecretAccessKey, Source: "dsqltest"}
			return nil
		})
	}
}

// startServer starts the PostgreSQL server that the cluster is on.
func (cfg config) startServer(ctx context.Context) (*postgres.Server, error) {
	if cfg.kept != nil {
		return cfg.kept.Start(ctx)
	}
	return postgres.Start(ctx)
}

func (cfg config) authority() []byte {
	if cfg.kept == nil {
		return nil
	}
	return cfg.kept.Authority()
}

// createKept creates the cluster's database and roles if they are missing. A role that exists is
// left unchanged.
func (c *Cluster) createKept(ctx context.Context) error {
	err := c.server.CreateDatabase(ctx, keptDatabase)
	if err != nil && !isDuplicate(err) {
		return fmt.Errorf("dsqltest: creating the cluster's database: %w", err)
	}
	c.shared.database.Store(keptDatabase)
	for _, role := range c.roles {
		if err := createRoles(ctx, c.server, keptDatabase, role); err != nil && !isDuplicate(err) {
			return err
		}
	}
	return nil
}

// isDuplicate reports whether err says that the database or role exists.
func isDuplicate(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "42P04" || e.Code == "42710")
}

// applyKept executes those files of a schema that no earlier run has.
func (c *Cluster) applyKept(ctx context.Context, files map[string]string, units []schema.Unit) error {
	pending, err := c.kept.Pending(files)
	if err != nil {
		return err
	}
	units = slices.DeleteFunc(units, func(u schema.Unit) bool { return !slices.Contains(pending, u.File) })
	for file := range schema.Files(units) {
		name := file[0].File
		if err := c.applyUnits(ctx, file); err != nil {
			return err
		}
		if err := c.kept.Applied(name, files[name]); err != nil {
			return err
		}
	}
	return nil
}
