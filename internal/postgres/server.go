// Package postgres runs the PostgreSQL server behind dsqltest's clusters: one
// throw-away server for each process, started on first use and gone with the
// process.
//
// The server listens on a unix socket only, in a directory that nobody else can
// enter. Nothing in it survives: it runs without fsync and is never shut down in
// order.
package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql/internal/connstring"
)

// Server is a running PostgreSQL server. Its methods may be called at the same
// time.
type Server struct {
	dir      string // the data directory, with the socket and the log in it
	version  string
	major    int
	admin    *pgx.ConnConfig
	lifeline *os.File // closing it stops the server; the system does that when the process ends
}

// shared is the process's engine. The channel is a lock that a context can give
// up waiting for.
var (
	shared *Server
	lock   = make(chan struct{}, 1)
)

// Start returns the process's engine and starts it when there is none. The
// context limits the start only, as does a minute. After an error the next call
// tries again.
//
// PostgreSQL 14 or later is looked for in $DSQLTEST_POSTGRES (the directory of
// its programs, or postgres itself), on PATH, and where the packages of common
// systems put it. A process of root runs it as the user postgres, else nobody.
// The server's files are in $TMPDIR; without it in /dev/shm when there is a
// gigabyte of room, else in /tmp.
func Start(ctx context.Context) (*Server, error) {
	select {
	case lock <- struct{}{}:
		defer func() { <-lock }()
	case <-ctx.Done():
		return nil, fmt.Errorf("dsqltest: waiting for PostgreSQL to start: %w", ctx.Err())
	}
	if shared != nil {
		return shared, nil
	}
	s, err := start(ctx)
	if err != nil {
		return nil, err
	}
	shared = s
	return s, nil
}

// Version returns the server's version, such as "16.4".
func (s *Server) Version() string { return s.version }

// Dial opens a connection to the server's socket and sends nothing.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(s.dir, ".s.PGSQL.5432"))
	if err != nil {
		return nil, fmt.Errorf("dsqltest: connecting to PostgreSQL: %w", err)
	}
	return conn, nil
}

// CreateDatabase makes a database that is owned by the role admin and open to
// every role. It is an error when the name is taken.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	sql := "CREATE DATABASE " + quote(name) + " OWNER admin TEMPLATE template1"
	if s.major >= 15 {
		sql += " STRATEGY file_copy" // three times faster than the default when nothing is synced
	}
	if err := s.Exec(ctx, "postgres", sql); err != nil {
		return fmt.Errorf("dsqltest: creating database %q: %w", name, err)
	}
	return nil
}

// DropDatabase removes a database and ends the sessions in it. It is no error
// when there is none of that name.
func (s *Server) DropDatabase(ctx context.Context, name string) error {
	if err := s.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("dsqltest: dropping database %q: %w", name, err)
	}
	return nil
}

// Exec runs a statement as superuser, in a session of its own.
func (s *Server) Exec(ctx context.Context, database, sql string, args ...any) error {
	conn, err := s.connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// QueryText runs a query that returns one text, as Exec does.
func (s *Server) QueryText(ctx context.Context, database, sql string, args ...any) (answer string, err error) {
	conn, err := s.connect(ctx, database)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	err = conn.QueryRow(ctx, sql, args...).Scan(&answer)
	return answer, err
}

func (s *Server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	config := s.admin.Copy()
	config.Database = database
	return pgx.ConnectConfig(ctx, config)
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// adminConfig returns the configuration with which connect connects through Dial.
func (s *Server) adminConfig() (*pgx.ConnConfig, error) {
	pool, err := connstring.Parse("user=dsqltest")
	if err != nil {
		return nil, fmt.Errorf("dsqltest: %w", err)
	}
	config := pool.ConnConfig
	config.RuntimeParams["application_name"] = "dsqltest"
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx) }
	return config, nil
}
