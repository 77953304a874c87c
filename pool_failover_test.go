package dsql_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

const peerHost = "zyxwvutsrqponmlkjihgfedcba.dsql.us-east-2.on.aws"

// pair is a scripted cluster with two endpoints.
type pair struct {
	here, there *fakepg.Server
	opts        []dsql.Option // of both, with the peer
}

func startPair(t *testing.T, here, there fakepg.Hooks) pair {
	t.Helper()
	cert, roots := fakepg.Certificate(t, host)
	peerCert, _ := fakepg.Certificate(t, peerHost)
	roots.AddCert(peerCert.Leaf)
	start := func(hooks fakepg.Hooks, cert tls.Certificate) *fakepg.Server {
		if hooks.TLS == nil {
			hooks.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		}
		hooks.TLS.NextProtos = []string{"postgresql"}
		return fakepg.Start(t, hooks)
	}
	p := pair{here: start(here, cert), there: start(there, peerCert)}
	p.opts = []dsql.Option{
		dsql.WithRootCAs(roots),
		dsql.WithCredentials(harness.Credentials),
		dsql.WithFailover(peerHost, ""),
		dsql.WithDialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			to := map[string]string{host + ":5432": p.here.Addr, peerHost + ":5432": p.there.Addr}[address]
			if to == "" {
				return nil, errors.New("dialed " + address)
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}),
	}
	return p
}

func (p pair) connector(t *testing.T, opts ...dsql.Option) *dsql.Connector {
	t.Helper()
	c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host}, harness.With(p.opts, opts...)...)
	require.NoError(t, err)
	return c
}

func refuse(code, message string) func(*fakepg.Conn) error {
	return func(*fakepg.Conn) error { return &pgconn.PgError{Code: code, Message: message} }
}

func hangUp(*fakepg.Conn) error { return io.EOF }

// requirePeer requires that the peer got what an endpoint gets, with a token of its own, and that no
// server got another's.
func (p pair) requirePeer(t *testing.T) {
	t.Helper()
	require.NotEmpty(t, p.there.Conns())
	for _, c := range p.there.Conns() {
		require.True(t, c.Direct)
		require.Equal(t, peerHost, c.TLS.ServerName)
		signed, params := parseToken(t, c.Password)
		require.Equal(t, peerHost, signed)
		require.Contains(t, params.Get("X-Amz-Credential"), "/us-east-2/dsql/")
	}
	for _, c := range p.here.Conns() {
		require.Equal(t, host, c.TLS.ServerName)
		if c.Password != "" {
			signed, params := parseToken(t, c.Password)
			require.Equal(t, host, signed)
			require.Contains(t, params.Get("X-Amz-Credential"), "/us-east-1/dsql/")
		}
	}
}

func TestPeerIsTriedWithinTheSameAttempt(t *testing.T) {
	other, _ := fakepg.Certificate(t, "other.example.com")
	for name, hooks := range map[string]fakepg.Hooks{
		"closed before TLS":  {Accept: func(net.Conn) error { return io.EOF }},
		"certificate":        {TLS: &tls.Config{Certificates: []tls.Certificate{other}}},
		"closed at startup":  {Startup: hangUp},
		"closed at password": {Password: hangUp},
		"53300":              {Password: refuse("53300", "too many connections")},
		"53400":              {Password: refuse("53400", "connection rate limit exceeded")},
		"57P01":              {Password: refuse("57P01", "terminating connection due to administrator command")},
		"57P03":              {Startup: refuse("57P03", "the database system is starting up")},
		"waking":             {Password: refuse("08006", "unable to accept connection, waking up cluster, please retry later")},
		"unavailable":        {Password: refuse("XX000", "server unavailable")},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPair(t, hooks, fakepg.Hooks{})
			t.Run("pool", func(t *testing.T) {
				require.NoError(t, harness.Ping(t, harness.NewPool(t, p.opts...)))
			})
			t.Run("Connect", func(t *testing.T) {
				conn, err := dsql.Connect(t.Context(), host, "", p.opts...)
				require.NoError(t, err)
				require.NoError(t, conn.Close(t.Context()))
			})
			t.Run("OpenDB", func(t *testing.T) {
				db, err := dsql.OpenDB(t.Context(), host, "", p.opts...)
				require.NoError(t, err)
				require.NoError(t, db.PingContext(t.Context()))
				require.NoError(t, db.Close())
			})
			t.Run("ConnConfig", func(t *testing.T) {
				cc, err := p.connector(t).ConnConfig(t.Context())
				require.NoError(t, err)
				conn, err := pgx.ConnectConfig(t.Context(), cc)
				require.NoError(t, err)
				require.NoError(t, conn.Close(t.Context()))
			})
			require.Len(t, p.there.Conns(), 4)
			require.Positive(t, p.here.Accepted())
			p.requirePeer(t)
		})
	}
}

func TestNoDNSAndARefusedDialGoToThePeer(t *testing.T) {
	for name, failure := range map[string]error{
		"DNS":  &net.DNSError{Err: "no such host", Name: host, IsNotFound: true},
		"dial": &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPair(t, fakepg.Hooks{}, fakepg.Hooks{})
			require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(p.opts,
				dsql.WithDialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
					if address == host+":5432" {
						return nil, failure
					}
					return harness.DialTo(p.there.Addr)(ctx, network, address)
				}))...)))
			p.requirePeer(t)
		})
	}
}

func TestWhatHoldsForAllEndpointsIsNotTriedAtThePeer(t *testing.T) {
	for name, refusal := range map[string]func(*fakepg.Conn) error{
		"08006":    refuse("08006", "unable to accept connection, access denied"),
		"28000":    refuse("28000", "unable to accept connection, access denied"),
		"28P01":    refuse("28P01", "password authentication failed"),
		"0A000":    refuse("0A000", `setting configuration parameter "x" not supported`),
		"protocol": refuse("08P01", "invalid startup packet"),
	} {
		t.Run(name, func(t *testing.T) {
			p := startPair(t, fakepg.Hooks{Password: refusal}, fakepg.Hooks{})
			c := p.connector(t)
			pool, err := c.NewPool(t.Context())
			require.NoError(t, err)
			defer pool.Close()
			for range 2 {
				require.Error(t, harness.Ping(t, pool))
			}
			require.Zero(t, p.there.Accepted(), "nothing was dialed")
			require.Len(t, p.here.Conns(), 2, "it does not rest")
			require.False(t, c.Endpoints()[0].Resting)
		})
	}
}

func TestAccessDeniedByAPeerIsAccessDenied(t *testing.T) {
	p := startPair(t, fakepg.Hooks{Startup: hangUp}, fakepg.Hooks{Password: refuse("08006", "unable to accept connection, access denied")})
	require.True(t, dsql.IsAccessDenied(harness.Ping(t, harness.NewPool(t, p.opts...))))
}

// tamperingWithPeers breaks the seal of the peers.
var tamperingWithPeers = []struct {
	name   string
	change func(*pgconn.Config)
	want   string
}{
	{"no peer", func(c *pgconn.Config) { c.Fallbacks = nil }, "ConnConfig.Fallbacks has 0 entries"},
	{"nil", func(c *pgconn.Config) { c.Fallbacks[0] = nil }, "ConnConfig.Fallbacks[0] was set to nil"},
	{"one more", func(c *pgconn.Config) {
		c.Fallbacks = append(c.Fallbacks, &pgconn.FallbackConfig{Host: "evil.example.com", Port: 5432})
	}, "ConnConfig.Fallbacks has 2 entries"},
	{"host", func(c *pgconn.Config) { c.Fallbacks[0].Host = "evil.example.com" }, `ConnConfig.Fallbacks[0].Host was changed to "evil.example.com"`},
	{"port", func(c *pgconn.Config) { c.Fallbacks[0].Port = 6432 }, "ConnConfig.Fallbacks[0].Port was changed to 6432"},
	{"no TLS", func(c *pgconn.Config) { c.Fallbacks[0].TLSConfig = nil }, "ConnConfig.Fallbacks[0].TLSConfig was set to nil"},
	{"InsecureSkipVerify", func(c *pgconn.Config) { c.Fallbacks[0].TLSConfig.InsecureSkipVerify = true }, "ConnConfig.Fallbacks[0].TLSConfig.InsecureSkipVerify"},
	{"name", func(c *pgconn.Config) { c.Fallbacks[0].TLSConfig.ServerName = host }, "ConnConfig.Fallbacks[0].TLSConfig.ServerName was changed"},
	{"roots", func(c *pgconn.Config) { c.Fallbacks[0].TLSConfig.RootCAs = x509.NewCertPool() }, "ConnConfig.Fallbacks[0].TLSConfig.RootCAs"},
	{"swapped", func(c *pgconn.Config) { c.Host, c.Fallbacks[0].Host = c.Fallbacks[0].Host, c.Host }, `ConnConfig.Host was changed to "` + peerHost},
}

func TestEndpointRestsAndComesBack(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	p := startPair(t, fakepg.Hooks{Accept: func(net.Conn) error {
		if down.Load() {
			return io.EOF
		}
		return nil
	}}, fakepg.Hooks{})
	var log lines
	c := p.connector(t, log.option())
	connect := func() {
		conn, err := c.Connect(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	connect()
	states := c.Endpoints()
	require.Len(t, states, 2)
	require.Equal(t, []any{host, "us-east-1", true}, []any{states[0].Endpoint, states[0].Region, states[0].Resting})
	require.Contains(t, states[0].Cause, "TLS with "+host)
	require.Equal(t, dsql.EndpointState{Endpoint: peerHost, Region: "us-east-2"}, states[1])
	for range 5 {
		connect()
	}
	require.Equal(t, 1, p.here.Accepted(), "others do not try it while it rests")
	require.Len(t, p.there.Conns(), 6)

	down.Store(false)
	require.Eventually(t, func() bool { return !c.Endpoints()[0].Resting }, 10*time.Second, time.Millisecond)
	connect()
	require.Len(t, p.here.Conns(), 1, "when the rest is over it is tried")
	require.Equal(t, dsql.EndpointState{Endpoint: host, Region: "us-east-1"}, c.Endpoints()[0])
	connect()
	require.Len(t, p.here.Conns(), 2)
	require.Len(t, p.there.Conns(), 6)
	p.requirePeer(t)

	changes := map[any]int{}
	for _, line := range log.all(t) {
		if strings.HasPrefix(line["msg"].(string), "dsql: endpoint") {
			require.Equal(t, host, line["endpoint"])
			changes[line["msg"]]++
		}
	}
	require.Equal(t, map[any]int{"dsql: endpoint rests": 1, "dsql: endpoint is back": 1}, changes)
}

// A server that accepts and is silent, at each step of a connect, takes its share of the context.
func TestSilentEndpointCostsItsShareOfTheContext(t *testing.T) {
	for _, step := range []string{"TLS", "startup", "password"} {
		t.Run(step, func(t *testing.T) {
			end := make(chan struct{})
			hang := func(at string) error {
				if at == step {
					<-end
				}
				return nil
			}
			p := startPair(t, fakepg.Hooks{
				Accept:   func(net.Conn) error { return hang("TLS") },
				Startup:  func(*fakepg.Conn) error { return hang("startup") },
				Password: func(*fakepg.Conn) error { return hang("password") },
			}, fakepg.Hooks{})
			t.Cleanup(func() { close(end) }) // before the servers are closed
			c := p.connector(t)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			conn, err := c.Connect(ctx)
			require.NoError(t, err)
			require.True(t, c.Endpoints()[0].Resting)
			p.requirePeer(t)

			time.Sleep(time.Until(deadline(ctx)) + 100*time.Millisecond)
			require.NoError(t, conn.(driver.Pinger).Ping(t.Context()), "the deadline is gone")
			require.NoError(t, conn.Close())
		})
	}
}

func deadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

func TestIdleConnectionsOfALostEndpointAreClosed(t *testing.T) {
	var down atomic.Bool
	p := startPair(t, fakepg.Hooks{Accept: func(net.Conn) error {
		if down.Load() {
			return io.EOF
		}
		return nil
	}}, fakepg.Hooks{})
	prepared := 0
	c := p.connector(t, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns = 6
		p.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { prepared++; return true, nil }
		return nil
	}))
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	defer pool.Close()
	var held []*pgxpool.Conn
	for range 5 {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	require.Equal(t, 5, prepared, "the caller's hook runs")
	for _, conn := range held[1:] {
		conn.Release()
	}
	down.Store(true)
	extra, err := c.Connect(t.Context()) // finds it down
	require.NoError(t, err)
	require.NoError(t, extra.Close())
	require.Eventually(t, func() bool { return pool.Stat().TotalConns() == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, held[0].Ping(t.Context()), "one in use is left alone")
	held[0].Release()
	require.NoError(t, pool.Ping(t.Context()))
	require.Len(t, p.here.Conns(), 5)
	require.Len(t, p.there.Conns(), 2)
}

func TestConnectionLimitKeepsOpenConnections(t *testing.T) {
	var full atomic.Bool
	p := startPair(t, fakepg.Hooks{Password: func(c *fakepg.Conn) error {
		if full.Load() {
			return refuse("53300", "too many connections")(c)
		}
		return nil
	}}, fakepg.Hooks{})
	c := p.connector(t)
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, pool.Ping(t.Context()))
	full.Store(true)
	extra, err := c.Connect(t.Context())
	require.NoError(t, err)
	require.NoError(t, extra.Close())
	require.True(t, c.Endpoints()[0].Resting)
	require.NoError(t, pool.Ping(t.Context()))
	require.Len(t, p.here.Conns(), 2)
	require.Len(t, p.there.Conns(), 1)
}
