package occ

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/pgtx"
	"github.com/go-dsql/dsql/internal/sqlstate"
)

// attemptTx is the transaction that a callback is given. It records the first error of the server,
// which is what failed the transaction, whatever the callback does with it; and it leaves the end
// of the transaction to RunTx.
type attemptTx struct {
	session
	run *run
	ctx context.Context // the run's, which bounds everything

	on      statements              // conn, or foreign
	conn    *pgx.Conn               // nil: a driver that is not pgx
	pooled  *pgxpool.Conn           // conn is a pool's
	foreign pgx.Tx                  // begun by another type; nil: the transaction is conn's own
	cancel  context.CancelCauseFunc // ends foreign's context
	owned   bool                    // the connection is the caller's, not a pool's

	interrupter interrupter

	first       first
	pending     bool     // BEGIN has not been sent
	refused     error    // nothing has begun, and nothing will
	beginFailed *failure // refused is BEGIN's own error

	sql        string // the last statement, up to the first error
	failed     error  // the server's first error
	commits    bool   // the callback called Commit
	rolledBack bool   // the callback called Rollback, or the attempt has ended
	closed     bool   // nothing more may be sent
}

// statements is what a pgx.Tx and a connection have in common.
type statements interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error)
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// record records err if the server sent it, and returns it.
func (tx *attemptTx) record(err error) error {
	if err != nil && tx.failed == nil && sqlstate.InTree(err) {
		tx.failed = err
		tx.first.unshift(err)
	}
	return err
}

// before is called before each statement, which may end the transaction. pgx interrupts a statement
// when its context ends; the interrupter is for one whose context does not end with the run's.
func (tx *attemptTx) before(ctx context.Context, sql string) error {
	if tx.closed {
		return pgx.ErrTxClosed
	}
	tx.first.offset = 0
	if ctx.Done() != tx.ctx.Done() {
		tx.interrupter.after(tx.ctx)
	}
	if tx.failed == nil {
		tx.sql = sql
	}
	if pgtx.MayEnd(sql) {
		if err := tx.beginAlone(); err != nil {
			return err
		}
		tx.watchEnds()
	}
	return tx.refused
}

// beforeAlone is before for what BEGIN cannot travel with.
func (tx *attemptTx) beforeAlone(ctx context.Context, sql string) error {
	if err := tx.before(ctx, sql); err != nil {
		return err
	}
	return tx.record(tx.beginAlone())
}

// Conn returns the connection, on which the callback may do anything. If there is no transaction on
// it, it is closed.
func (tx *attemptTx) Conn() *pgx.Conn {
	switch {
	case tx.closed:
	case tx.beginAlone() != nil:
		tx.discard()
	default:
		tx.watchEnds()
		tx.interrupter.after(tx.ctx)
	}
	return tx.conn
}

// LargeObjects returns those of pgx's own transaction, of which there is one without BEGIN only from
// an empty batch.
func (tx *attemptTx) LargeObjects() pgx.LargeObjects {
	tx.interrupter.after(tx.ctx)
	if tx.foreign != nil {
		return tx.foreign.LargeObjects()
	}
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{})
	if tx.closed || tx.beginAlone() != nil {
		return pgx.FailedBatchResults(b, pgx.ErrTxClosed).Tx().LargeObjects()
	}
	b.QueuedQueries = nil
	return tx.conn.SendBatch(tx.ctx, b).Tx().LargeObjects()
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

func (tx *attemptTx) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if err := tx.before(ctx, sql); err != nil {
		return tag, err
	}
	if tx.pending {
		tag, sent, err := tx.execFirst(ctx, sql, args)
		if sent || err != nil {
			return tag, tx.record(err)
		}
	}
	tag, err = tx.on.Exec(ctx, sql, args...)
	return tag, tx.record(err)
}

func (tx *attemptTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := tx.before(ctx, sql); err != nil {
		return errRows{err: err}, err
	}
	if tx.pending {
		if rows, err := tx.queryFirst(ctx, sql, args); rows != nil {
			return rows, err
		}
	}
	rows, err := tx.on.Query(ctx, sql, args...)
	return &attemptRows{Rows: rows, tx: tx}, tx.record(err)
}

func (tx *attemptTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := tx.before(ctx, sql); err != nil {
		return errRows{err: err}
	}
	if tx.pending {
		results, err := tx.sendFirst(ctx, sql, args)
		switch {
		case err != nil:
			return errRows{err: tx.record(err)}
		case results != nil:
			return &attemptRow{results.QueryRow(), tx, results}
		}
	}
	return &attemptRow{tx.on.QueryRow(ctx, sql, args...), tx, nil}
}

func (tx *attemptTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := tx.beforeAlone(ctx, sql); err != nil {
		return nil, err
	}
	description, err := tx.on.Prepare(ctx, name, sql)
	return description, tx.record(err)
}

func (tx *attemptTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := tx.beforeAlone(ctx, ""); err != nil {
		return 0, err
	}
	n, err := tx.on.CopyFrom(ctx, table, columns, rows)
	return n, tx.record(err)
}

func (tx *attemptTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := tx.before(ctx, ""); err != nil {
		return errBatch{err: err}
	}
	if tx.pending {
		results, err := tx.sendFirstBatch(ctx, b)
		switch {
		case err != nil:
			return errBatch{err: tx.record(err)}
		case results != nil:
			return &attemptBatch{results, tx}
		}
	}
	if pgtx.BatchMayEnd(b) {
		tx.watchEnds()
	}
	if tx.foreign == nil && begins(b) {
		return errBatch{err: errBatchBegins}
	}
	return &attemptBatch{tx.on.SendBatch(ctx, b), tx}
}

var errBatchBegins = errors.New("occ: Batch.BeginTx cannot be used within a transaction")
