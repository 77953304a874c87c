package occ

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// attemptRows records an error as soon as the rows end, since the callback may never ask for it.
type attemptRows struct {
	pgx.Rows
	tx    *attemptTx
	batch pgx.BatchResults // of BEGIN and the statement of these rows; nil: sent otherwise, or closed
	err   error            // of closing batch
}

// end is called when the rows have ended.
func (r *attemptRows) end() {
	if r.batch != nil {
		r.err = r.batch.Close()
		r.batch = nil
	}
	r.tx.record(r.Err())
}

func (r *attemptRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

func (r *attemptRows) Next() bool {
	more := r.Rows.Next()
	if !more {
		r.end()
	}
	return more
}

func (r *attemptRows) Scan(dest ...any) error {
	err := r.Rows.Scan(dest...)
	if err != nil {
		r.end()
	}
	return err
}

func (r *attemptRows) Values() ([]any, error) {
	values, err := r.Rows.Values()
	if err != nil {
		r.end()
	}
	return values, err
}

func (r *attemptRows) Close() {
	r.Rows.Close()
	r.end()
}

// Conn returns the connection, which may end the transaction. That of RunBatch has none of its own.
func (r *attemptRows) Conn() *pgx.Conn {
	if r.tx.conn == nil {
		return r.Rows.Conn()
	}
	return r.tx.Conn()
}

type attemptRow struct {
	pgx.Row
	tx    *attemptTx
	batch pgx.BatchResults // as in attemptRows
}

func (r *attemptRow) Scan(dest ...any) error {
	err := r.Row.Scan(dest...)
	if r.batch != nil {
		ended := r.batch.Close()
		r.batch = nil
		if err == nil {
			err = ended
		}
	}
	return r.tx.record(err)
}

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
	return &attemptRows{Rows: rows, tx: b.tx}, b.tx.record(err)
}

func (b *attemptBatch) QueryRow() pgx.Row { return &attemptRow{b.BatchResults.QueryRow(), b.tx, nil} }

func (b *attemptBatch) Close() error { return b.tx.record(b.BatchResults.Close()) }

// errRows and errBatch are the results of what could not be sent, or was refused.
type errRows struct {
	pgx.Rows
	err  error
	conn *pgx.Conn
}

func (r errRows) Close()            {}
func (r errRows) Err() error        { return r.err }
func (r errRows) Next() bool        { return false }
func (r errRows) Scan(...any) error { return r.err }

func (r errRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (r errRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r errRows) Values() ([]any, error)                       { return nil, r.err }
func (r errRows) RawValues() [][]byte                          { return nil }
func (r errRows) Conn() *pgx.Conn                              { return r.conn }
func (r errRows) TypeMap() *pgtype.Map                         { return nil }

type errBatch struct {
	pgx.BatchResults
	err error
}

func (b errBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, b.err }
func (b errBatch) Query() (pgx.Rows, error)         { return errRows{err: b.err}, b.err }
func (b errBatch) QueryRow() pgx.Row                { return errRows{err: b.err} }
func (b errBatch) Close() error                     { return b.err }
func (b errBatch) Tx() pgx.Tx                       { return nil }
