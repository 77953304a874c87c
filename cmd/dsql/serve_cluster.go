package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/dialect"
	"github.com/go-dsql/dsql/occ"
)

// serveEnv is the environment in which programs find the cluster: libpq's variables, the AWS SDK's,
// and this library's.
func serveEnv(c *dsqltest.Cluster, address, caFile, role string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	if role == "" {
		role = "admin"
	}
	cfg, err := clusterConfig(c)
	if err != nil {
		return nil, err
	}
	creds, err := cfg.Credentials.Retrieve(context.Background())
	if err != nil {
		return nil, err
	}
	return []string{
		"PGHOST=" + c.Endpoint(),
		"PGHOSTADDR=" + host,
		"PGPORT=" + port,
		"PGDATABASE=postgres",
		"PGUSER=" + role,
		"PGSSLMODE=verify-full",
		"PGSSLROOTCERT=" + caFile,
		"AWS_ACCESS_KEY_ID=" + creds.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + creds.SecretAccessKey,
		"AWS_REGION=" + c.Region(),
		"AWS_DEFAULT_REGION=" + c.Region(),
		"DSQL_ENDPOINT=" + c.Endpoint(),
		"DSQL_REGION=" + c.Region(),
		"DSQL_USER=" + role,
		"DSQL_DIAL_ADDRESS=" + net.JoinHostPort(host, port),
		"DSQL_ROOT_CERT=" + caFile,
	}, nil
}

func clusterConfig(c *dsqltest.Cluster) (dsql.Config, error) {
	cfg := dsql.Config{Endpoint: c.Endpoint(), Region: c.Region()}
	for _, opt := range c.Options() {
		if err := opt(&cfg); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// applySchema runs the files *.sql of a directory, each statement in a transaction of its own, as
// DSQL's DDL has to be.
func applySchema(ctx context.Context, c *dsqltest.Cluster, dir string) error {
	names, err := fs.Glob(os.DirFS(dir), "*.sql")
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	if len(names) == 0 {
		return fmt.Errorf("dsql: the directory %s has no files *.sql", dir)
	}
	slices.Sort(names)
	conn, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for _, name := range names {
		text, err := fs.ReadFile(os.DirFS(dir), name)
		if err != nil {
			return fmt.Errorf("dsql: %w", err)
		}
		for _, sql := range dialect.Split(string(text)) {
			err := occ.Retry(ctx, func(ctx context.Context) error {
				_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
				return err
			})
			if err != nil {
				return fmt.Errorf("dsql: %s: %.200s: %w", name, sql, err)
			}
		}
	}
	return nil
}

// relay passes TCP on from a fixed address.
type relay struct {
	listener net.Listener
	wait     sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{} // nil: closed
}

func listenRelay(address string) (*relay, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dsql: listening: %w: choose another address with --listen, 127.0.0.1:0 for any free port", err)
	}
	return &relay{listener: l, open: make(map[net.Conn]struct{})}, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

// serve begins to pass connections on to address.
func (r *relay) serve(address string) {
	r.wait.Go(func() {
		for {
			client, err := r.listener.Accept()
			if err != nil {
				return
			}
			r.wait.Go(func() { r.pass(client, address) })
		}
	})
}

func (r *relay) pass(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	if !r.enter(client, server) {
		return
	}
	defer r.leave(client, server)
	var both sync.WaitGroup
	both.Go(func() { copyAll(server, client) })
	both.Go(func() { copyAll(client, server) })
	both.Wait()
}

// copyAll passes an end on, so that the other direction ends too.
func copyAll(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
}

func (r *relay) enter(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		if r.open == nil {
			return false
		}
		r.open[c] = struct{}{}
	}
	return true
}

func (r *relay) leave(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		delete(r.open, c)
	}
}

func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	for c := range r.open {
		c.Close()
	}
	r.open = nil
	r.mu.Unlock()
	r.wait.Wait()
}
