package occ

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/pgtx"
	"github.com/go-dsql/dsql/internal/sqlstate"
)

// attemptTx is the transaction that a callback is given. It records the first error of the server,
// which is what failed the transaction, whatever the callback does with it; and it leaves the end
// of the transaction to RunTx.
type attemptTx struct {
	pgx.Tx
	session
	run *run

	direct     bool   // the connection stays the attempt's after ROLLBACK
	owned      bool   // the connection is the caller's, not a pool's
	sql        string // the last statement, up to the first error
	failed     error  // the server's first error
	commits    bool   // the callback called Commit
	rolledBack bool   // the callback called Rollback, or the attempt has ended
	closed     bool   // nothing more may be sent
}

// record records err if the server sent it, and returns it.
func (tx *attemptTx) record(err error) error {
	if err != nil && tx.failed == nil && sqlstate.InTree(err) {
		tx.failed = err
	}
	return err
}

// before is called before each statement. One without arguments may end the transaction.
func (tx *attemptTx) before(sql string, args []any) error {
	if tx.closed {
		return pgx.ErrTxClosed
	}
	if tx.failed == nil {
		tx.sql = sql
	}
	if len(args) == 0 && pgtx.MayEnd(sql) {
		tx.watchEnds()
	}
	return nil
}

// Conn returns the connection, on which the callback may do anything.
func (tx *attemptTx) Conn() *pgx.Conn {
	if !tx.closed {
		tx.watchEnds()
	}
	return tx.Tx.Conn()
}

func (tx *attemptTx) Begin(context.Context) (pgx.Tx, error) { return nil, errNoSavepoints }

// BeginTx makes RunTx on a transaction fail with the reason.
func (tx *attemptTx) BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error) {
	return nil, errNoSavepoints
}

func (tx *attemptTx) Commit(context.Context) error {
	tx.commits = true
	return errOwnCommit
}

// Rollback rolls back. If SQL has ended the transaction before, the attempt still fails for that.
func (tx *attemptTx) Rollback(ctx context.Context) error {
	if tx.closed {
		return pgx.ErrTxClosed
	}
	if tx.endedItself(nil) != nil {
		return errOwnEnd
	}
	err := tx.finish(ctx)
	tx.session.inTx = false
	return err
}

func (tx *attemptTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := tx.before(sql, args); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := tx.Tx.Exec(ctx, sql, args...)
	return tag, tx.record(err)
}

func (tx *attemptTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := tx.before(sql, args); err != nil {
		return errRows{err: err}, err
	}
	rows, err := tx.Tx.Query(ctx, sql, args...)
	return &attemptRows{rows, tx}, tx.record(err)
}

func (tx *attemptTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := tx.before(sql, args); err != nil {
		return errRows{err: err}
	}
	return &attemptRow{tx.Tx.QueryRow(ctx, sql, args...), tx}
}

func (tx *attemptTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := tx.before(sql, nil); err != nil {
		return nil, err
	}
	description, err := tx.Tx.Prepare(ctx, name, sql)
	return description, tx.record(err)
}

func (tx *attemptTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := tx.before("", nil); err != nil {
		return 0, err
	}
	n, err := tx.Tx.CopyFrom(ctx, table, columns, rows)
	return n, tx.record(err)
}

func (tx *attemptTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := tx.before("", nil); err != nil {
		return errBatch{err: err}
	}
	if pgtx.BatchMayEnd(b) {
		tx.watchEnds()
	}
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

// errRows and errBatch are the results of a transaction that is over.
type errRows struct {
	pgx.Rows
	err error
}

func (r errRows) Close()            {}
func (r errRows) Err() error        { return r.err }
func (r errRows) Next() bool        { return false }
func (r errRows) Scan(...any) error { return r.err }

func (r errRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (r errRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r errRows) Values() ([]any, error)                       { return nil, r.err }
func (r errRows) RawValues() [][]byte                          { return nil }
func (r errRows) Conn() *pgx.Conn                              { return nil }

type errBatch struct {
	pgx.BatchResults
	err error
}

func (b errBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, b.err }
func (b errBatch) Query() (pgx.Rows, error)         { return errRows{err: b.err}, b.err }
func (b errBatch) QueryRow() pgx.Row                { return errRows{err: b.err} }
func (b errBatch) Close() error                     { return b.err }
