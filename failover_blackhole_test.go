package dsql_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// A statement without a deadline ends although its endpoint is a black hole, and the next goes to
// the peer: with database/sql and with a single connection, as in a pool.
func TestStatementInABlackHoleEnds(t *testing.T) {
	cluster := func(t *testing.T) (*dsqltest.Cluster, []dsql.Option) {
		c := dsqltest.Start(t, dsqltest.WithPeer("us-east-2"))
		return c, append(c.Options(), dsql.WithFailover(c.Peer().Endpoint(), ""), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
			p.ConnConfig.ConnectTimeout = p.ConnConfig.ConnectTimeout / 4
			return nil
		}))
	}
	t.Run("OpenDB", func(t *testing.T) {
		c, opts := cluster(t)
		db, err := dsql.OpenDB(t.Context(), c.Endpoint(), "", opts...)
		require.NoError(t, err)
		defer db.Close()
		_, err = db.ExecContext(t.Context(), "CREATE TABLE t (id int PRIMARY KEY)")
		require.NoError(t, err)
		c.BlackHole()
		defer c.Restore()
		_, err = db.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
		if err != nil { // nil: a ping of the idle connection was what did not come back
			require.ErrorContains(t, err, "may have been applied")
		}
		_, err = db.ExecContext(t.Context(), "INSERT INTO t VALUES (2)")
		require.NoError(t, err)
		require.Positive(t, c.Peer().Stats().Connects)
	})
	t.Run("Connect", func(t *testing.T) {
		c, opts := cluster(t)
		conn, err := dsql.Connect(t.Context(), c.Endpoint(), "", opts...)
		require.NoError(t, err)
		c.BlackHole()
		defer c.Restore()
		_, err = conn.Exec(t.Context(), "SELECT 1")
		require.Error(t, err)
		require.True(t, conn.IsClosed())
		conn, err = dsql.Connect(t.Context(), c.Endpoint(), "", opts...)
		require.NoError(t, err, "of a new connector, which does not know")
		require.NoError(t, conn.Ping(t.Context()))
		require.NoError(t, conn.Close(t.Context()))
	})
}

// spy is every hook and tracer that a caller can have, and the passwords that they saw.
type spy struct {
	mu   sync.Mutex
	seen []string
}

func (s *spy) see(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if password != "" {
		s.seen = append(s.seen, password)
	}
}

func (s *spy) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	s.see(data.ConnConfig.Password)
	return ctx
}
func (s *spy) TraceConnectEnd(_ context.Context, data pgx.TraceConnectEndData) {
	if data.Conn != nil {
		s.see(data.Conn.Config().Password)
	}
}
func (s *spy) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (s *spy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *spy) install(p *pgxpool.Config) error {
	cc := p.ConnConfig
	cc.Tracer = s
	p.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error { s.see(cc.Password); return nil }
	p.AfterConnect = func(_ context.Context, conn *pgx.Conn) error { s.see(conn.Config().Password); return nil }
	cc.AfterConnect = func(context.Context, *pgconn.PgConn) error { return nil }
	cc.ValidateConnect = func(context.Context, *pgconn.PgConn) error { return nil }
	cc.AfterNetConnect = func(_ context.Context, cc *pgconn.Config, conn net.Conn) (net.Conn, error) {
		s.see(cc.Password)
		return conn, nil
	}
	cc.OnPgError = func(conn *pgconn.PgConn, _ *pgconn.PgError) bool { return false }
	dial, lookup := cc.DialFunc, cc.LookupFunc
	cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dial(ctx, network, address)
	}
	cc.LookupFunc = func(ctx context.Context, name string) ([]string, error) { return lookup(ctx, name) }
	return nil
}

// Whatever the dial address, each endpoint is sent its own token and never another's.
func TestTokensStayWithTheirEndpointWithHooksAndTracers(t *testing.T) {
	for name, hooks := range map[string]fakepg.Hooks{
		"hangs up":  {Password: hangUp},
		"is full":   {Password: refuse("53300", "too many connections")},
		"is closed": {Startup: refuse("57P03", "the database system is shutting down")},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(spy)
			p := startPair(t, hooks, fakepg.Hooks{})
			opts := harness.With(p.opts, dsql.WithPoolConfig(s.install))
			require.NoError(t, harness.Ping(t, harness.NewPool(t, opts...)))
			conn, err := dsql.Connect(t.Context(), host, "", opts...)
			require.NoError(t, err)
			require.NoError(t, conn.Close(t.Context()))
			db, err := dsql.OpenDB(t.Context(), host, "", opts...)
			require.NoError(t, err)
			require.NoError(t, db.PingContext(t.Context()))
			require.NoError(t, db.Close())
			p.requirePeer(t)
			require.Len(t, p.there.Conns(), 3)
			require.Empty(t, slices.DeleteFunc(s.seen, func(password string) bool {
				signed, _ := parseToken(t, password)
				return signed == host // Connect's ConnConfig has the token of its first endpoint
			}))
		})
	}
}
