// Command goose migrates a schema with two concurrent migrators, as when two copies of a service
// start.
//
// On DSQL a migration contains one DDL statement and no transaction. Its version is recorded
// afterward, so it may run twice and uses IF NOT EXISTS. There are no advisory locks; the lock is a
// row with an owner and an expiry.
package main

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

//go:embed migrations/*.sql
var files embed.FS

const (
	versions = "goose_versions"
	locks    = "goose_locks"
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

	errs := make([]error, 2)
	var migrators sync.WaitGroup
	for i := range errs {
		migrators.Go(func() { errs[i] = migrate(ctx, c) })
	}
	migrators.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return report(ctx, c, out)
}

// migrate applies all migrations.
func migrate(ctx context.Context, c *cluster.Cluster) error {
	db, pool, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer db.Close()
	defer pool.Close()
	provider, err := newProvider(db, pool)
	if err != nil {
		return err
	}
	// A connection hits a conflict after DDL on any other connection, of this migrator or another.
	return occ.Retry(ctx, func(ctx context.Context) error {
		_, err := provider.Up(ctx)
		return err
	})
}

// open returns two pools of the cluster: one for goose, one for [dsql.CreateIndex].
func open(ctx context.Context, c *cluster.Cluster) (*sql.DB, *pgxpool.Pool, error) {
	connector, err := dsql.NewConnector(ctx, dsql.Config{Endpoint: c.Endpoint, Region: c.Region}, c.Options...)
	if err != nil {
		return nil, nil, err
	}
	pool, err := connector.NewPool(ctx)
	if err != nil {
		return nil, nil, err
	}
	return sql.OpenDB(connector), pool, nil
}

func newProvider(db *sql.DB, pool *pgxpool.Pool) (*goose.Provider, error) {
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableName(locks),
		lock.WithTableLeaseDuration(30*time.Second), // after which the lock of a dead migrator expires
		lock.WithTableHeartbeatInterval(10*time.Second),
		lock.WithTableLockTimeout(200*time.Millisecond, 600), // an index can take minutes
		lock.WithTableUnlockTimeout(50*time.Millisecond, 100),
	)
	if err != nil {
		return nil, err
	}
	sqlFiles, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectAuroraDSQL, db, sqlFiles,
		goose.WithTableName(versions),
		goose.WithLocker(locker),
		goose.WithIsolateDDL(true), // no DDL and DML in one transaction
		goose.WithGoMigrations(goose.NewGoMigration(3,
			&goose.GoFunc{RunDB: buildIndex(pool, "CREATE UNIQUE INDEX ASYNC IF NOT EXISTS goose_city_name ON goose_city (name)")},
			&goose.GoFunc{RunDB: exec("DROP INDEX IF EXISTS goose_city_name")},
		)),
	)
}

func exec(ddl string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, ddl)
		return err
	}
}

// buildIndex waits until the index is valid, so that later migrations can rely on it.
func buildIndex(pool *pgxpool.Pool, ddl string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, _ *sql.DB) error { return dsql.CreateIndex(ctx, pool, ddl) }
}

// report prints what the migrators did and removes it.
func report(ctx context.Context, c *cluster.Cluster, out io.Writer) error {
	db, pool, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer db.Close()
	defer pool.Close()
	provider, err := newProvider(db, pool)
	if err != nil {
		return err
	}
	var version, applied, cities int
	err = occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT max(version_id), count(*) FROM "+versions+" WHERE version_id > 0").Scan(&version, &applied)
		if err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM goose_city").Scan(&cities)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the schema is at version %d\n", version)
	fmt.Fprintf(out, "%d migrations were applied, each once; there are %d cities\n", applied, cities)
	return remove(ctx, db, provider)
}

// remove reverts all migrations and drops goose's tables.
func remove(ctx context.Context, db *sql.DB, provider *goose.Provider) error {
	err := occ.Retry(ctx, func(ctx context.Context) error {
		_, err := provider.DownTo(ctx, 0)
		return err
	})
	if err != nil {
		return err
	}
	for _, table := range []string{versions, locks} {
		err := occ.Retry(ctx, func(ctx context.Context) error {
			return exec("DROP TABLE "+table)(ctx, db)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
