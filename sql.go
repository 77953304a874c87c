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

	"github.com/go-dsql/dsql/internal/sqlstate"
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
	return sqlConn{conn.(*stdlib.Conn)}, nil
}

// Driver is pgx's driver. It opens no DSQL connection by itself.
func (c *Connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// sqlConn mends what pgx's connection tells database/sql. driver.ErrBadConn has a
// statement run again on another connection, and pgx gives it also for one that
// was cut after the server had carried it out.
type sqlConn struct{ *stdlibConn }

// stdlibConn gives the embedded field a name that does not hide the method Conn.
type stdlibConn = stdlib.Conn

// ExecContext runs a statement. It is run again only if nothing of it was sent.
func (c sqlConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	result, err := c.stdlibConn.ExecContext(ctx, query, args)
	return result, classifyLost(ctx, err)
}

// QueryContext runs a query, as ExecContext a statement.
func (c sqlConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	rows, err := c.stdlibConn.QueryContext(ctx, query, args)
	return rows, classifyLost(ctx, err)
}

// classifyLost returns err of a connection that was open when the statement began, without
// driver.ErrBadConn, which would have it run again.
func classifyLost(ctx context.Context, err error) error {
	switch {
	case !errors.Is(err, driver.ErrBadConn):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return sqlstate.ErrMaybeApplied
}

// PrepareContext prepares a statement, whose executions are as honest.
func (c sqlConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.stdlibConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return sqlStmt{stmt.(*stdlib.Stmt), c}, nil
}

// BeginTx begins a transaction, if DSQL has its isolation level.
func (c sqlConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	switch level := sql.IsolationLevel(o.Isolation); level {
	case sql.LevelDefault, sql.LevelRepeatableRead:
		return c.stdlibConn.BeginTx(ctx, o)
	default:
		return nil, fmt.Errorf("dsql: the isolation level %v is not DSQL's: leave it out, or give sql.LevelRepeatableRead", level)
	}
}

type sqlStmt struct {
	*stdlib.Stmt
	c sqlConn
}

func (s sqlStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if s.c.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	result, err := s.Stmt.ExecContext(ctx, args)
	return result, classifyLost(ctx, err)
}

func (s sqlStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if s.c.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	rows, err := s.Stmt.QueryContext(ctx, args)
	return rows, classifyLost(ctx, err)
}
