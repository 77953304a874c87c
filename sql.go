package dsql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/go-dsql/dsql/internal/credcache"
	"github.com/go-dsql/dsql/internal/sqlconn"
)

// OpenDB returns a database/sql pool for the cluster at endpoint. region may be empty when it can
// be inferred from the endpoint. Like [NewPool] it checks what can be checked without the cluster
// and does not connect: the first query or Ping does.
//
// Every connection has its own token and the guarantees of this package, and is closed 50 to 55
// minutes after it was opened, between two uses: SetConnMaxLifetime is not needed. Ten idle
// connections are kept, for 10 minutes (4 with [WithFailover]); SetMaxIdleConns and
// SetConnMaxIdleTime change that. Set
// SetMaxOpenConns, which has no limit by default: a cluster allows 10,000 connections. Of
// [WithPoolConfig], what belongs to one connection (ConnConfig, BeforeConnect, the lifetime and its
// jitter) takes effect, and the rest does not.
//
// A transaction's isolation level must be the default or [sql.LevelRepeatableRead].
func OpenDB(ctx context.Context, endpoint, region string, opts ...Option) (*sql.DB, error) {
	c, err := NewConnector(ctx, Config{Endpoint: endpoint, Region: region}, opts...)
	if err != nil {
		return nil, explained(err)
	}
	db := sql.OpenDB(c)
	db.SetMaxIdleConns(10)
	db.SetConnMaxIdleTime(c.pool.MaxConnIdleTime)
	return db, nil
}

// RegisterDriver registers a database/sql driver as name, for tools that take the name of a driver:
//
//	err := dsql.RegisterDriver("dsql")
//	db, err := sql.Open("dsql", "postgres://app@<cluster ID>.dsql.us-east-1.on.aws/postgres")
//
// The data source is a URL as [ParseURL] reads it, and is checked by sql.Open. Credentials are
// requested by the first connection. Every sql.Open with the same URL shares one [Connector], and
// every connection has its own token. RegisterDriver returns an error if name is empty or taken.
func RegisterDriver(name string) error {
	registerMu.Lock()
	defer registerMu.Unlock()
	switch {
	case name == "":
		return errors.New("dsql: RegisterDriver: the name must not be empty")
	case slices.Contains(sql.Drivers(), name):
		return fmt.Errorf("dsql: a database/sql driver is already registered as %q", name)
	}
	sql.Register(name, &urlDriver{connectors: make(map[string]*urlConnector)})
	return nil
}

var registerMu sync.Mutex // sql.Register panics on a name that is taken

// urlDriver opens what URLs describe.
type urlDriver struct {
	mu         sync.Mutex
	connectors map[string]*urlConnector // by URL
}

// Open opens a connection to what url describes.
func (d *urlDriver) Open(url string) (driver.Conn, error) {
	c, err := d.OpenConnector(url)
	if err != nil {
		return nil, err
	}
	return c.Connect(context.Background())
}

// OpenConnector returns the connector of url.
func (d *urlDriver) OpenConnector(url string) (driver.Connector, error) {
	cfg, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.connectors[url]
	if !ok {
		c = &urlConnector{driver: d, cfg: cfg}
		d.connectors[url] = c
	}
	return c, nil
}

// urlConnector becomes a Connector with the first connection.
type urlConnector struct {
	driver *urlDriver
	cfg    Config

	mu       sync.Mutex
	resolved *resolution // or under way; nil: none yet, or the last failed
}

// resolution is one call of NewConnector.
type resolution struct {
	done      chan struct{} // closed when the others are set
	connector *Connector
	err       error
}

func (u *urlConnector) Driver() driver.Driver { return u.driver }

func (u *urlConnector) Connect(ctx context.Context) (driver.Conn, error) {
	r := u.resolve(ctx)
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, explained(credcache.Failure(ctx.Err(), constructTimeout))
	}
	if r.err != nil {
		return nil, explained(r.err)
	}
	return r.connector.Connect(ctx)
}

// resolve returns the resolution that every connection waits for, each no longer than its own
// context allows.
func (u *urlConnector) resolve(ctx context.Context) *resolution {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.resolved != nil {
		return u.resolved
	}
	r := &resolution{done: make(chan struct{})}
	u.resolved = r
	go func() {
		defer close(r.done)
		r.connector, r.err = NewConnector(context.WithoutCancel(ctx), u.cfg)
		if r.err != nil {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.resolved = nil
		}
	}()
	return r
}

// sessionEnd is the key of a connection's end in its custom data.
const sessionEnd = "dsql.sessionEnd"

// Connect opens a connection for database/sql: with Driver it makes c a driver.Connector, for
// sql.OpenDB and for wrappers. In [sql.Conn.Raw] the connection has a method Conn() *pgx.Conn, and
// Raw() driver.Conn, which returns pgx's *stdlib.Conn. A wrapper must pass ResetSession on, or the
// connection's lifetime is not kept.
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
			end, ok := conn.PgConn().CustomData()[sessionEnd].(time.Time)
			if ok && time.Now().After(end) || c.rest.IsSpent(conn) || conn.PgConn().IsBusy() {
				return driver.ErrBadConn
			}
			return nil
		}),
	).Connect(ctx)
	if err != nil {
		return nil, explained(err)
	}
	return sqlconn.New(conn), nil
}

// Driver returns pgx's driver, which cannot open DSQL connections without the Connector.
func (c *Connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }
