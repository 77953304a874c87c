// Package postgres finds, starts and supervises the PostgreSQL server behind dsqltest's clusters:
// one temporary server for each process, started on first use and removed with the process.
//
// The server listens on a unix socket only, in a directory that other users cannot enter. Nothing
// in it is durable: it runs without fsync and is never shut down cleanly. Only the data of
// StartKept is, which stays in a directory of the caller's.
package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/connstring"
)

// Server is a running PostgreSQL server. It is safe for concurrent use.
type Server struct {
	dir      string // with the socket
	data     string // the data directory, with the log; dir unless it is kept
	files    string // of WriteFile
	version  string
	major    int
	config   *pgx.ConnConfig
	lifeline *os.File     // closing it stops the server; the kernel does so when the process ends
	ended    func() error // waits for the supervisor

	turn  chan struct{} // holds a value while super is in use
	super *pgx.Conn     // the superuser's, and the only session in template1, which is therefore free to be copied
}

// shared is the process's server. The channel is a lock that honors a context while waiting.
var (
	shared *Server
	lock   = make(chan struct{}, 1)
)

// Start returns the process's server and starts it if there is none. The context applies to the
// start only, which is also limited to a minute, not counting a download by [Bring]. After an error
// the next call tries again.
//
// Start looks for PostgreSQL 14 or later in $DSQLTEST_POSTGRES (the directory of its programs, or
// postgres itself), on PATH, and where the packages of common systems install it. As root it runs
// PostgreSQL as the user postgres, or nobody if there is no such user. The server's files are in
// $TMPDIR; if that is not set, in /dev/shm if it has a gigabyte of free space, otherwise in /tmp.
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

// Blank is the database that every new one is a copy of.
const Blank = "template1"

// CreateDatabase creates a database that is owned by the role admin and open to every role. It
// fails if the name is taken.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.CopyDatabase(ctx, name, Blank)
}

// CopyDatabase creates a database as CreateDatabase does, as a copy of one that has no sessions.
func (s *Server) CopyDatabase(ctx context.Context, name, template string) error {
	sql := "CREATE DATABASE " + quote(name) + " OWNER admin TEMPLATE " + quote(template)
	if s.major >= 15 {
		sql += " STRATEGY file_copy" // without fsync many times faster than the default
	}
	if _, err := s.administer(ctx, sql); err != nil {
		return fmt.Errorf("dsqltest: creating database %q: %w", name, err)
	}
	return nil
}

// DropDatabase removes a database and ends its sessions. It succeeds if there is none of that name.
func (s *Server) DropDatabase(ctx context.Context, name string) error {
	if err := s.EndSessions(ctx, name); err != nil {
		return err
	}
	if _, err := s.administer(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("dsqltest: dropping database %q: %w", name, err)
	}
	return nil
}

// EndSessions ends the sessions of a database and waits for their end, which takes milliseconds.
// DROP DATABASE … WITH (FORCE) polls only every 100 ms.
func (s *Server) EndSessions(ctx context.Context, name string) error {
	for {
		tag, err := s.administer(ctx, "SELECT pg_terminate_backend(pid) FROM engine_pg_stat_activity WHERE datname = $1", name)
		if err != nil {
			return fmt.Errorf("dsqltest: ending the sessions of %q: %w", name, err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// administer runs a statement in the session that stays open: to open one takes longer than to copy
// a database.
func (s *Server) administer(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return tag, ctx.Err()
	}
	if s.super == nil || s.super.IsClosed() {
		if s.super, err = s.Connect(ctx, Blank); err != nil {
			return tag, err
		}
	}
	return s.super.Exec(ctx, sql, args...)
}

// WriteFile creates a file in the server's directory, which only this process's user and
// PostgreSQL's can enter, and returns its path. It is removed with the server unless its data is
// kept.
func (s *Server) WriteFile(name string, content []byte) (path string, err error) {
	path = filepath.Join(s.files, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", fmt.Errorf("dsqltest: %w", err)
	}
	return path, nil
}

// Exec runs a statement as superuser, in a session of its own.
func (s *Server) Exec(ctx context.Context, database, sql string, args ...any) error {
	conn, err := s.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// Connect opens a session as superuser.
func (s *Server) Connect(ctx context.Context, database string) (*pgx.Conn, error) {
	config := s.config.Copy()
	config.Database = database
	return pgx.ConnectConfig(ctx, config)
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// superuserConfig returns the configuration with which Connect connects through Dial.
func (s *Server) superuserConfig() (*pgx.ConnConfig, error) {
	pool, err := connstring.Parse("/", "dsqltest", "")
	if err != nil {
		return nil, fmt.Errorf("dsqltest: %w", err)
	}
	config := pool.ConnConfig
	config.RuntimeParams["application_name"] = "dsqltest"
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx) }
	return config, nil
}
