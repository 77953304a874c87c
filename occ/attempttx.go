package occ

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// attemptTx is the transaction that a callback is given. It records the first error of the server,
// which is what failed the transaction, whatever the callback does with it; and it leaves the end
// of the transaction to RunTx.
type attemptTx struct {
	pgx.Tx
	failed     error // the server's first error
	committed  bool  // the callback committed, or tried to
	rolledBack bool  // the callback rolled back
}

// record records err if the server sent it, and returns it.
func (tx *attemptTx) record(err error) error {
	if err != nil && tx.failed == nil && sqlstate.InTree(err) {
		tx.failed = err
	}
	return err
}

func (tx *attemptTx) Begin(context.Context) (pgx.Tx, error) { return nil, errNoSavepoints }

// BeginTx makes RunTx on a transaction fail with the reason.
func (tx *attemptTx) BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error) {
	return nil, errNoSavepoints
}

func (tx *attemptTx) Commit(context.Context) error {
	tx.committed = true
	return errOwnCommit
}

func (tx *attemptTx) Rollback(ctx context.Context) error {
	tx.rolledBack = true
	return rollback(ctx, tx.Tx)
}

func (tx *attemptTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := tx.Tx.Exec(ctx, sql, args...)
	if tag.String() == "COMMIT" {
		tx.committed = true
	}
	return tag, tx.record(err)
}

func (tx *attemptTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := tx.Tx.Query(ctx, sql, args...)
	return &attemptRows{rows, tx}, tx.record(err)
}

func (tx *attemptTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return &attemptRow{tx.Tx.QueryRow(ctx, sql, args...), tx}
}

func (tx *attemptTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	description, err := tx.Tx.Prepare(ctx, name, sql)
	return description, tx.record(err)
}

func (tx *attemptTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	n, err := tx.Tx.CopyFrom(ctx, table, columns, rows)
	return n, tx.record(err)
}

func (tx *attemptTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return &attemptBatch{tx.Tx.SendBatch(ctx, b), tx}
}

// attemptRows records an error as soon as the rows end, since the callback may never ask for it.
type attemptRows struct {
	pgx.Rows
	tx *attemptTx
}

func (r *attemptRows) Next() bool {
	more := r.Rows.Next()
	if !more {
		r.tx.record(r.Rows.Err())
	}
	return more
}

func (r *attemptRows) Scan(dest ...any) error {
	err := r.Rows.Scan(dest...)
	if err != nil {
		r.tx.record(r.Rows.Err())
	}
	return err
}

func (r *attemptRows) Close() {
	r.Rows.Close()
	r.tx.record(r.Rows.Err())
}

type attemptRow struct {
	pgx.Row
	tx *attemptTx
}

func (r *attemptRow) Scan(dest ...any) error { return r.tx.record(r.Row.Scan(dest...)) }

type attemptBatch struct {
	pgx.BatchResults
	tx *attemptTx
}

func (b *attemptBatch) Exec() (pgconn.CommandTag, error) {
	tag, err := b.BatchResults.Exec()
	return tag, b.tx.record(err)
}

func (b *attemptBatch) Query() (pgx.Rows, error) {
	rows, err := b.BatchResults.Query()
	return &attemptRows{rows, b.tx}, b.tx.record(err)
}

func (b *attemptBatch) QueryRow() pgx.Row { return &attemptRow{b.BatchResults.QueryRow(), b.tx} }

func (b *attemptBatch) Close() error { return b.tx.record(b.BatchResults.Close()) }
