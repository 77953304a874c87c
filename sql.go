package dsql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/go-dsql/dsql/internal/pgtx"
	"github.com/go-dsql/dsql/internal/sqlstate"
	"github.com/go-dsql/dsql/occ"
)

// OpenDB returns a database/sql pool for the cluster at endpoint. region may be
// empty when the endpoint tells it. Like [NewPool] it checks what can be checked
// without the cluster and does not connect: the first query or Ping does.
//
// Every connection has a token of its own and the seal of this package, and ends
// 50 to 55 minutes after it was opened, between two uses: SetConnMaxLifetime is
// not needed. Ten idle connections are kept, for ten minutes; SetMaxIdleConns and
// SetConnMaxIdleTime change that. SetMaxOpenConns has no limit unless it is set,
// and should be: a cluster takes 10,000 connections. With [WithPoolConfig], what
// belongs to one connection (ConnConfig, BeforeConnect, the lifetime and its
// jitter) counts, and the rest does not.
//
// A transaction's isolation level is the default or [sql.LevelRepeatableRead].
func OpenDB(ctx context.Context, endpoint, region string, opts ...Option) (*sql.DB, error) {
	c, err := connector(ctx, endpoint, region, opts)
	if err != nil {
		return nil, explained(err)
	}
	db := sql.OpenDB(c)
	db.SetMaxIdleConns(10)
	db.SetConnMaxIdleTime(c.pool.MaxConnIdleTime)
	return db, nil
}

// sessionEnd is the key of a connection's end in its custom data.
const sessionEnd = "dsql.sessionEnd"

// Connect opens a connection for database/sql: with Driver it makes c a
// driver.Connector, for sql.OpenDB and for wrappers. In [sql.Conn.Raw] the
// connection has a method Conn() *pgx.Conn.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	p := c.pool.Copy()
	conn, err := stdlib.GetConnector(*p.ConnConfig,
		stdlib.OptionBeforeConnect(c.beforeConnect),
		stdlib.OptionAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
			life := p.MaxConnLifetime + rand.N(p.MaxConnLifetimeJitter+1)
			conn.PgConn().CustomData()[sessionEnd] = time.Now().Add(life)
			return nil
		}),
		stdlib.OptionResetSession(func(_ context.Context, conn *pgx.Conn) error {
			if end, ok := conn.PgConn().CustomData()[sessionEnd].(time.Time); ok && time.Now().After(end) {
				return driver.ErrBadConn
			}
			return nil
		}),
	).Connect(ctx)
	if err != nil {
		return nil, explained(err)
	}
	return &sqlConn{stdlibConn: conn.(*stdlib.Conn)}, nil
}

// Driver is pgx's driver. It opens no DSQL connection by itself.
func (c *Connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// sqlConn corrects what pgx's connection tells database/sql. driver.ErrBadConn has a statement run
// again on another connection, and pgx returns it also for one that was cut after the server had
// applied it.
type sqlConn struct {
	*stdlibConn
	tx    *sqlTx   // the transaction in progress
	stale []string // prepared statements that the server refuses since a schema change
}

// stdlibConn gives the embedded field a name that does not hide the method Conn.
type stdlibConn = stdlib.Conn

// Raw returns pgx's connection: in [sql.Conn.Raw], c.(interface{ Raw() driver.Conn }).Raw() is a
// *stdlib.Conn.
func (c *sqlConn) Raw() driver.Conn { return c.stdlibConn }

// ExecContext runs a statement. It is run again only if nothing of it was sent.
func (c *sqlConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.before(ctx, query); err != nil {
		return nil, err
	}
	result, err := c.stdlibConn.ExecContext(ctx, query, args)
	return result, c.after(ctx, query, err)
}

// QueryContext runs a query, as ExecContext a statement.
func (c *sqlConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.before(ctx, query); err != nil {
		return nil, err
	}
	rows, err := c.stdlibConn.QueryContext(ctx, query, args)
	return rows, c.after(ctx, query, err)
}

// before is called before each statement. It deallocates what is stale, so that pgx prepares it
// again, and has the connection watched if the statement may end the transaction.
func (c *sqlConn) before(ctx context.Context, query string) error {
	if c.Conn().IsClosed() {
		return driver.ErrBadConn
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
func (c *sqlConn) after(ctx context.Context, query string, err error) error {
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
func (c *sqlConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.before(ctx, query); err != nil {
		return nil, err
	}
	stmt, err := c.stdlibConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, c.after(ctx, query, err)
	}
	return sqlStmt{stmt.(*stdlib.Stmt), c, query}, nil
}

// BeginTx begins a transaction, if DSQL has its isolation level.
func (c *sqlConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	switch level := sql.IsolationLevel(o.Isolation); level {
	case sql.LevelDefault, sql.LevelRepeatableRead:
	default:
		return nil, fmt.Errorf("dsql: the isolation level %v is not DSQL's: leave it out, or give sql.LevelRepeatableRead", level)
	}
	if err := c.before(ctx, ""); err != nil {
		return nil, err
	}
	tx, err := c.stdlibConn.BeginTx(ctx, o)
	if err != nil {
		return nil, err
	}
	c.tx = &sqlTx{Tx: tx, ctx: ctx, c: c, readOnly: o.ReadOnly}
	return c.tx, nil
}

// sqlTx is a transaction whose end tells what became of it.
type sqlTx struct {
	driver.Tx
	ctx      context.Context
	c        *sqlConn
	readOnly bool
	watch    *pgtx.Watch // nil: no statement could end the transaction
}

// Commit commits. An outcome that is unknown is an [*occ.CommitUnknownError].
func (t *sqlTx) Commit() error {
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
func (t *sqlTx) Rollback() error {
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

func (t *sqlTx) end() {
	t.watch.Stop()
	t.watch, t.c.tx = nil, nil
}

type sqlStmt struct {
	*stdlib.Stmt
	c     *sqlConn
	query string
}

func (s sqlStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.c.ExecContext(ctx, s.query, args)
}

func (s sqlStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.c.QueryContext(ctx, s.query, args)
}
