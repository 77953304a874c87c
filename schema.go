package dsql

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql/internal/schema"
)

// DB executes statements: *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn. For database/sql, take a pool of
// the same [Connector], or the *pgx.Conn that [Connector.Connect] describes.
type DB interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// CreateIndex executes one CREATE [UNIQUE] INDEX ASYNC and waits until the index is valid. It
// retries on conflict, and with IF NOT EXISTS also when the connection is lost.
//
// If IF NOT EXISTS finds an index that another client is building, CreateIndex waits for that one;
// if it finds one that is not valid, it returns an error that says so. If the build fails, as when
// the key of a unique index is not unique, CreateIndex drops the index, which would otherwise keep
// refusing rows, and returns an error with the details of the job.
//
// When ctx ends, the build continues. The error names the job, for [WaitForJob].
func CreateIndex(ctx context.Context, db DB, sql string) error {
	if err := schema.CreateIndex(ctx, db, sql); err != nil {
		return fmt.Errorf("dsql: CreateIndex: %w", err)
	}
	return nil
}

// WaitForJob waits until a job of DSQL has completed, and returns an error with its details if it
// has failed. Jobs are started by CREATE INDEX ASYNC and ALTER TABLE ASYNC, which return the ID.
// DSQL forgets a job 30 minutes after its end: an ID that it does not know is an error.
//
// WaitForJob reads sys.jobs at intervals that grow from 20 milliseconds to 2 seconds. It holds no
// connection of a pool between two reads, and survives the loss of one.
func WaitForJob(ctx context.Context, db DB, jobID string) error {
	if err := schema.WaitForJob(ctx, db, jobID); err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	return nil
}

// ApplySchema executes the files *.sql in the root of fsys, in the order of their names. Each
// statement is a transaction of its own, as DSQL requires of DDL, except those from BEGIN to
// COMMIT, which are one. Each transaction is retried on conflict. Indexes are created as by
// [CreateIndex], several at a time, and ApplySchema waits for other jobs. An error names the file
// and the statement; what was executed before it stays.
//
// What a file sets with SET, such as search_path, holds until the end of the file. A pool executes
// such a file on one connection, which it then closes; on a connection, ApplySchema resets the
// settings to those that it was opened with. If the connection is lost, ApplySchema returns an
// error, as another one would not have the settings. For a DB that is neither a connection nor has
// a pool's Acquire, ApplySchema refuses such files: use qualified names, SET LOCAL between BEGIN
// and COMMIT, or [WithRuntimeParam].
//
// ApplySchema keeps no record of what it has executed: to apply a schema again, after an error or
// with each start of a service, write IF NOT EXISTS, OR REPLACE and ON CONFLICT. Let one process at
// a time do it. For versions, use a migration tool, such as goose.
//
// COPY FROM is refused: use INSERT. Of files for goose, sql-migrate and dbmate only the up part is
// executed; of those for golang-migrate only *.up.sql. Their order is that of their versions. Files
// for Flyway, Liquibase and tern are refused.
func ApplySchema(ctx context.Context, db DB, fsys fs.FS) error {
	files, err := schema.Read(fsys)
	if err != nil {
		return fmt.Errorf("dsql: ApplySchema: %w", err)
	}
	units, err := schema.Parse(files)
	if err != nil {
		return fmt.Errorf("dsql: ApplySchema: %w", err)
	}
	if err := schema.Apply(ctx, db, units); err != nil {
		return fmt.Errorf("dsql: ApplySchema: %w", err)
	}
	return nil
}
