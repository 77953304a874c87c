package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql/internal/dialect"
	"github.com/go-dsql/dsql/occ"
)

// build is an index that has been asked for.
type build struct {
	db   DB
	name dialect.AsyncIndex
	job  string // ID; empty: IF NOT EXISTS found something of that name
}

// CreateIndex executes CREATE INDEX ASYNC and waits until the index is valid.
func CreateIndex(ctx context.Context, db DB, sql string) error {
	b, err := startIndex(ctx, db, sql)
	if err != nil {
		return err
	}
	return b.wait(ctx)
}

// startIndex executes CREATE INDEX ASYNC.
func startIndex(ctx context.Context, db DB, sql string) (*build, error) {
	name, ok := dialect.ParseAsyncIndex(sql)
	if !ok {
		return nil, fmt.Errorf("the statement must be one CREATE [UNIQUE] INDEX ASYNC, not %.200q", sql)
	}
	b := &build{db: db, name: name}
	var opts []occ.RetryOption
	if name.IfNotExists {
		// Without DDL that changes nothing: other sessions would hit a conflict each time.
		if x, err := b.find(ctx, ""); err != nil || x.object != "" {
			return b, err
		}
		opts = idempotent(db)
	}
	err := occ.Retry(ctx, func(ctx context.Context) (err error) {
		b.job, err = execute(ctx, db, sql)
		return err
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("%.200s: %w", sql, err)
	}
	return b, nil
}

// wait waits until the index is valid. If this build's own job has failed, it drops the index, which
// would enforce its uniqueness and be what the next IF NOT EXISTS finds.
func (b *build) wait(ctx context.Context) error {
	own, id := b.job != "", b.job
	if !own { // another client may be building it
		x, err := b.find(ctx, "")
		if err != nil || x.valid {
			return err
		}
		latest, err := findJob(ctx, b.db, "job_type = 'INDEX_BUILD' AND object_id::text = $1", x.object)
		if err != nil {
			return err
		}
		id = latest.id
	}
	var j job
	if id != "" {
		var err error
		if j, err = waitForJob(ctx, b.db, id); err != nil {
			return err
		}
	}
	x, err := b.find(ctx, j.object)
	switch {
	case err != nil:
		return err
	case own && j.status == "failed":
		return b.undo(ctx, x, j)
	case x.valid:
		return nil
	case x.object != "":
		return fmt.Errorf("the index %s exists and is not valid: use DROP INDEX %s, then create it again%s", x.name, x.name, j.because())
	case b.name.Name != "":
		return fmt.Errorf("there is no index %s on %s: another relation may have the name%s", b.name.Name, b.name.Table, j.because())
	}
	return fmt.Errorf("there is no new index on %s%s", b.name.Table, j.because())
}

// undo drops the index that a failed job has left, and returns why it failed.
func (b *build) undo(ctx context.Context, x index, j job) error {
	failure := fmt.Errorf("an index build failed: %s", j.details)
	if x.object == "" || x.object != j.object || x.valid {
		return failure
	}
	err := occ.Retry(ctx, func(ctx context.Context) error {
		_, err := execute(ctx, b.db, "DROP INDEX IF EXISTS "+x.name)
		return err
	}, idempotent(b.db)...)
	if err != nil {
		return fmt.Errorf("%w; the index %s, which is not valid, could not be dropped: %w", failure, x.name, err)
	}
	return fmt.Errorf("%w; the index %s was dropped", failure, x.name)
}

// index is what the catalog says of an index; the zero value is none.
type index struct {
	object string // OID
	name   string // in SQL
	valid  bool
}

// find looks for the index by its name, otherwise by the OID that its job has.
func (b *build) find(ctx context.Context, object string) (x index, err error) {
	where, args := "i.indexrelid::text = $1", []any{object}
	switch {
	case b.name.Name != "" && b.name.Schema != "":
		where, args = "c.relname = $1 AND t.relname = $2 AND n.nspname = $3", []any{b.name.Name, b.name.Table, b.name.Schema}
	case b.name.Name != "":
		where, args = "c.relname = $1 AND t.relname = $2 AND pg_catalog.pg_table_is_visible(t.oid)", []any{b.name.Name, b.name.Table}
	}
	var parts [2]string
	err = read(ctx, b.db, strings.Join([]string{
		"SELECT i.indexrelid::text, n.nspname::text, c.relname::text, i.indisvalid FROM pg_catalog.pg_index i",
		"JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid",
		"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE", where,
	}, " "), args, &x.object, &parts[0], &parts[1], &x.valid)
	x.name = pgx.Identifier(parts[:]).Sanitize()
	return x, err
}
