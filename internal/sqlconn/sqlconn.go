// Package sqlconn corrects what pgx's connection tells database/sql of statements and transactions
// whose outcome is unknown.
package sqlconn

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/go-dsql/dsql/internal/pgtx"
	"github.com/go-dsql/dsql/internal/sqlstate"
	"github.com/go-dsql/dsql/occ"
)

// New returns conn, an open connection of pgx's driver, with the corrections of this package.
func New(conn driver.Conn) *Conn { return &Conn{stdlibConn: conn.(*stdlib.Conn)} }

// Conn corrects what pgx's connection tells database/sql. driver.ErrBadConn has a statement run
// again on another connection, and pgx returns it also for one that was cut after the server had
// applied it.
type Conn struct {
	*stdlibConn
	tx    *tx      // the transaction in progress
	stale []string // prepared statements that the server refuses since a schema change
}

// stdlibConn gives the embedded field a name that does not hide the method Conn.
type stdlibConn = stdlib.Conn

// Raw returns pgx's connection: in [sql.Conn.Raw], c.(interface{ Raw() driver.Conn }).Raw() is a
// *stdlib.Conn.
func (c *Conn) Raw() driver.Conn { return c.stdlibConn }

// ExecContext runs a statement. It is run again only if nothing of it was sent.
func (c *Conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.before(ctx, query); err != nil {
		return nil, err
	}
	result, err := c.stdlibConn.ExecContext(ctx, query, args)
	return result, c.after(ctx, query, err)
}

// QueryContext runs a query, as ExecContext a statement.
func (c *Conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.before(ctx, query); err != nil {
		return nil, err
	}
	rows, err := c.stdlibConn.QueryContext(ctx, query, args)
	return rows, c.after(ctx, query, err)
}

// errOpenRows is the error of a statement that cannot be sent, as the connection is still receiving
// rows. pgx's error would have database/sql run it again, and tells it that the connection is lost.
var errOpenRows = errors.New("dsql: rows are open on this connection or transaction: read them to the end or close them before the next statement")

// Ping checks the connection. pgx's closes one that has open rows.
func (c *Conn) Ping(ctx context.Context) error {
	if c.Conn().PgConn().IsBusy() {
		return errOpenRows
	}
	return c.stdlibConn.Ping(ctx)
}

// before is called before each statement. It deallocates what is stale, so that pgx prepares it
// again, and has the connection watched if the statement may end the transaction.
func (c *Conn) before(ctx context.Context, query string) error {
	if c.Conn().IsClosed() {
		return driver.ErrBadConn
	}
	if c.Conn().PgConn().IsBusy() {
		return errOpenRows
	}
	if len(c.stale) > 0 && c.Conn().PgConn().TxStatus() == 'I' {
		stale := c.stale
		c.stale = nil
		for _, query := range stale {
			if err := c.Conn().Deallocate(ctx, query); err != nil && c.Conn().IsClosed() {
				return driver.ErrBadConn
			}
		}
	}
	if c.tx != nil && c.tx.watch == nil && pgtx.MayEnd(query) {
		c.tx.watch = pgtx.NewWatch(c.Conn().PgConn())
	}
	return nil
}

// after returns err of a connection that was open when the statement began, without
// driver.ErrBadConn, which would have it run again.
func (c *Conn) after(ctx context.Context, query string, err error) error {
	switch {
	case err == nil:
		return nil
	case sqlstate.Has(err, sqlstate.IsStalePlan):
		c.stale = append(c.stale, query)
		return err
	case !errors.Is(err, driver.ErrBadConn):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return sqlstate.ErrMaybeApplied
}

// PrepareContext prepares a statement, which is run as ExecContext and QueryContext do.
func (c *Conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.before(ctx, query); err != nil {
		return nil, err
	}
	prepared, err := c.stdlibConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, c.after(ctx, query, err)
	}
	return stmt{prepared.(*stdlib.Stmt), c, query}, nil
}

// BeginTx begins a transaction, if DSQL has its isolation level.
func (c *Conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	switch level := sql.IsolationLevel(o.Isolation); level {
	case sql.LevelDefault, sql.LevelRepeatableRead:
	default:
		return nil, fmt.Errorf("dsql: DSQL does not have the isolation level %v: leave it out, or use sql.LevelRepeatableRead", level)
	}
	if err := c.before(ctx, ""); err != nil {
		return nil, err
	}
	begun, err := c.stdlibConn.BeginTx(ctx, o)
	if err != nil {
		return nil, err
	}
	c.tx = &tx{Tx: begun, ctx: ctx, c: c, readOnly: o.ReadOnly}
	return c.tx, nil
}

// tx is a transaction whose Commit reports an unknown outcome.
type tx struct {
	driver.Tx
	ctx      context.Context
	c        *Conn
	readOnly bool
	watch    *pgtx.Watch // nil: no statement could end the transaction
}

// Commit commits. An outcome that is unknown is an [*occ.CommitUnknownError].
func (t *tx) Commit() error {
	defer t.end()
	outcome, err := pgtx.Commit(t.ctx, t.c.Conn(), "")
	switch {
	case outcome == pgtx.Unknown && !t.readOnly:
		return &occ.CommitUnknownError{Err: err}
	case outcome == pgtx.NotSent:
		return fmt.Errorf("dsql: %w: %w", pgtx.ErrNotSent, err)
	}
	return err
}

// Rollback rolls back. It reports a transaction that was ended by SQL.
func (t *tx) Rollback() error {
	defer t.end()
	pg := t.c.Conn().PgConn()
	idle := !pg.IsClosed() && pg.TxStatus() == 'I'
	var ended error
	switch {
	case t.watch.Committed():
		ended = fmt.Errorf("dsql: %w", pgtx.ErrCommitted)
	case idle, t.watch.Ended():
		ended = fmt.Errorf("dsql: %w", pgtx.ErrEnded)
	}
	if idle {
		return ended
	}
	return errors.Join(ended, t.Tx.Rollback())
}

func (t *tx) end() {
	t.watch.Stop()
	t.watch, t.c.tx = nil, nil
}

type stmt struct {
	*stdlib.Stmt
	c     *Conn
	query string
}

func (s stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.c.ExecContext(ctx, s.query, args)
}

func (s stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.c.QueryContext(ctx, s.query, args)
}
