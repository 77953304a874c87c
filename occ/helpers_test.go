package occ_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/testenv"
	"github.com/go-dsql/dsql/occ"
)

// The statements that these tests send. A statement without arguments goes by
// the simple protocol, whatever the mode.
const (
	selectN = "select n from t where id = $1"
	updateN = "update t set n = n + 1 where id = $1"
	commit  = "commit"
)

var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement,
	pgx.QueryExecModeCacheDescribe,
	pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec,
	pgx.QueryExecModeSimpleProtocol,
}

// scripted is a server that answers SQL from a script, and a pool on it.
type scripted struct {
	*fakepg.SQL
	*fakepg.Server
	pool *pgxpool.Pool
}

type answer func(fakepg.Statement) fakepg.Reply

// startSQL starts a server whose statements get the first answer that is not
// zero; a select gets one row if none is.
func startSQL(t *testing.T, answers ...answer) *scripted {
	t.Helper()
	return startSQLMode(t, pgx.QueryExecModeCacheStatement, answers...)
}

func startSQLMode(t *testing.T, mode pgx.QueryExecMode, answers ...answer) *scripted {
	t.Helper()
	s := &scripted{SQL: &fakepg.SQL{Answer: func(st fakepg.Statement) fakepg.Reply {
		for _, a := range answers {
			if r := a(st); r.Err != nil || r.Cut || r.CutAfter || r.Rows != nil {
				return r
			}
		}
		if st.Step == fakepg.Execute && strings.HasPrefix(st.SQL, "select") {
			return fakepg.Reply{Rows: [][]int64{{1}}}
		}
		return fakepg.Reply{}
	}}}
	s.Server = fakepg.Start(t, fakepg.Hooks{Session: s.Session})
	config, err := pgxpool.ParseConfig(s.url())
	require.NoError(t, err)
	config.MaxConns = 1
	config.ConnConfig.DefaultQueryExecMode = mode
	s.pool, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(s.pool.Close)
	return s
}

func (s *scripted) url() string {
	return fmt.Sprintf("postgres://u:p@%s/db?sslmode=disable&connect_timeout=5", s.Addr)
}

func (s *scripted) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.url())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// kept says that the pool's one connection has survived.
func (s *scripted) kept(t *testing.T) {
	t.Helper()
	require.EqualValues(t, 1, s.pool.Stat().NewConnsCount(), "connections made")
	require.EqualValues(t, 1, s.pool.Stat().IdleConns(), "connections kept")
}

// first answers the first n steps of statements that begin with prefix.
func first(n int, step fakepg.Step, prefix string, reply fakepg.Reply) answer {
	var seen atomic.Int64
	return func(s fakepg.Statement) fakepg.Reply {
		if s.Step == step && strings.HasPrefix(s.SQL, prefix) && seen.Add(1) <= int64(n) {
			return reply
		}
		return fakepg.Reply{}
	}
}

func failing(code, message string) fakepg.Reply {
	return fakepg.Reply{Err: pgError(code, message)}
}

func conflict() fakepg.Reply { return fakepg.Reply{Err: fakepg.Conflict()} }

// events collects the events of WithOnRetry.
type events struct {
	mu  sync.Mutex
	all []occ.RetryEvent
}

func (e *events) option() occ.RetryOption {
	return occ.WithOnRetry(func(event occ.RetryEvent) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, event)
	})
}

// quick keeps waits after conflicts short.
func quick() occ.RetryOption { return occ.WithBackoff(time.Microsecond, time.Millisecond) }

func update(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, updateN, 1)
	return err
}

// endable is a context that a test ends with an error.
type endable struct {
	context.Context
	done chan struct{}
	err  atomic.Pointer[error]
}

func newEndable(parent context.Context) *endable {
	return &endable{Context: parent, done: make(chan struct{})}
}

func (c *endable) Done() <-chan struct{} { return c.done }

func (c *endable) Err() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (c *endable) end(err error) {
	c.err.Store(&err)
	close(c.done)
}

// breakable is a connection that takes nothing more once it is broken.
type breakable struct {
	net.Conn
	broken atomic.Bool
}

func (c *breakable) Write(b []byte) (int, error) {
	if c.broken.Load() {
		c.Conn.Close()
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: errors.New("broken pipe")}
	}
	return c.Conn.Write(b)
}

func dialBreakable(made chan<- *breakable) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &breakable{Conn: conn}
		made <- c
		return c, nil
	}
}

func port(t *testing.T, address string) uint16 {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", address)
	require.NoError(t, err)
	return uint16(addr.Port)
}

func TestMain(m *testing.M) {
	testenv.Clear()
	os.Exit(m.Run())
}
