package dsql_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"
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

func TestWhatTheServerSees(t *testing.T) {
	for _, role := range []string{"admin", "app"} {
		t.Run(role, func(t *testing.T) {
			s, opts := harness.Start(t, fakepg.Hooks{})
			pool := harness.NewPool(t, harness.With(opts, dsql.WithUser(role))...)
			require.Zero(t, s.Accepted(), "NewPool does not connect")
			require.NoError(t, harness.Ping(t, pool))

			require.Len(t, s.Conns(), 1)
			c := s.Conns()[0]
			require.True(t, c.Direct, "TLS is direct")
			require.EqualValues(t, 0x16, c.First[0])
			require.Equal(t, host, c.TLS.ServerName)
			require.Equal(t, "postgresql", c.TLS.NegotiatedProtocol)
			require.GreaterOrEqual(t, c.TLS.Version, uint16(tls.VersionTLS12))
			require.Equal(t, map[string]string{"user": role, "database": "postgres", "application_name": dsql.ApplicationName}, c.Parameters)
			signedHost, params := parseToken(t, c.Password)
			require.Equal(t, host, signedHost)
			want := map[string]string{"admin": "DbConnectAdmin", "app": "DbConnect"}[role]
			require.Equal(t, want, params.Get("Action"))
			signedAt, err := time.Parse("20060102T150405Z", params.Get("X-Amz-Date"))
			require.NoError(t, err)
			require.WithinDuration(t, time.Now(), signedAt, time.Minute, "the token is fresh")
		})
	}
}

func TestConnectSendsTheSame(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	conn, err := dsql.Connect(t.Context(), host, "", opts...)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.Len(t, s.Conns(), 1)
	c := s.Conns()[0]
	require.True(t, c.Direct)
	require.Equal(t, host, c.TLS.ServerName)
	require.Equal(t, "admin", c.Parameters["user"])
	signedHost, _ := parseToken(t, c.Password)
	require.Equal(t, host, signedHost)
}

func TestEveryConnectionHasItsOwnTokenAndResumesTLS(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	signed := make(chan struct{}, 1)
	pool := harness.NewPool(t, harness.With(opts, dsql.WithTokenLifetime(time.Hour))...)
	require.NoError(t, harness.Ping(t, pool))
	first := s.Conns()[0]
	_, params := parseToken(t, first.Password)
	require.Equal(t, "3600", params.Get("X-Amz-Expires"))
	require.False(t, first.TLS.DidResume)

	// Dates in tokens are whole seconds.
	time.AfterFunc(1100*time.Millisecond, func() { signed <- struct{}{} })
	<-signed
	pool.Reset()
	require.NoError(t, harness.Ping(t, pool))
	second := s.Conns()[1]
	require.NotEqual(t, first.Password, second.Password)
	require.True(t, second.TLS.DidResume)
}

func TestNegotiatedTLSCanBeAskedFor(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	pool := harness.NewPool(t, harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.SSLNegotiation = "postgres"
		return nil
	}))...)
	require.NoError(t, harness.Ping(t, pool))
	c := s.Conns()[0]
	require.False(t, c.Direct)
	require.Equal(t, []byte{0, 0, 0, 8, 4, 210, 22, 47}, c.First, "an SSLRequest")
	require.Equal(t, host, c.TLS.ServerName)
}

func TestServerThatIsNotTheEndpointGetsNoStartupMessage(t *testing.T) {
	wrongName, wrongNamePool := fakepg.Certificate(t, "other.dsql.us-east-1.on.aws")
	unknown, _ := fakepg.Certificate(t, host)
	_, otherPool := fakepg.Certificate(t, host)
	for _, tt := range []struct {
		name  string
		tls   *tls.Config
		roots *x509.CertPool
		want  any // pointer for errors.As
	}{
		{"certificate for another name", &tls.Config{Certificates: []tls.Certificate{wrongName}}, wrongNamePool, new(x509.HostnameError)},
		{"certificate of an unknown authority", &tls.Config{Certificates: []tls.Certificate{unknown}}, otherPool, new(x509.UnknownAuthorityError)},
		{"system authorities do not know it", &tls.Config{Certificates: []tls.Certificate{unknown}}, nil, new(x509.UnknownAuthorityError)},
		{"TLS 1.1 only", &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, opts := harness.Start(t, fakepg.Hooks{TLS: tt.tls})
			if tt.roots != nil {
				opts = harness.With(opts, dsql.WithRootCAs(tt.roots))
			} else if tt.want != nil {
				opts = opts[1:]
			}
			err := harness.Ping(t, harness.NewPool(t, opts...))
			require.Error(t, err)
			if tt.want != nil {
				require.ErrorAs(t, err, tt.want)
			}
			require.Positive(t, s.Accepted())
			require.Empty(t, s.Conns())
		})
	}
}

func TestServerThatRefusesTLSGetsNoToken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	seen := make(chan []byte, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		first := make([]byte, 8)
		_, _ = c.Read(first)
		_, _ = c.Write([]byte{'N'})
		rest := make([]byte, 1024)
		n, _ := c.Read(rest)
		seen <- rest[:n]
	}()
	err = harness.Ping(t, harness.NewPool(t, dsql.WithCredentials(harness.Credentials), dsql.WithDialFunc(harness.DialTo(listener.Addr().String())),
		dsql.WithPoolConfig(func(p *pgxpool.Config) error { p.ConnConfig.SSLNegotiation = "postgres"; return nil })))
	require.ErrorContains(t, err, "refused TLS")
	require.Empty(t, <-seen)
}

// tampering is a change that breaks the seal, and the field that the error names.
var tampering = []struct {
	name   string
	change func(*pgconn.Config)
	want   string
}{
	{"host", func(c *pgconn.Config) { c.Host = "evil.example.com" }, `ConnConfig.Host was changed to "evil.example.com"`},
	{"unix socket", func(c *pgconn.Config) { c.Host = "/var/run/postgresql" }, `ConnConfig.Host was changed to "/var/run/postgresql"`},
	{"port", func(c *pgconn.Config) { c.Port = 6432 }, "ConnConfig.Port was changed to 6432"},
	{"database", func(c *pgconn.Config) { c.Database = "other" }, `ConnConfig.Database was changed to "other"`},
	{"no database", func(c *pgconn.Config) { c.Database = "" }, `ConnConfig.Database was changed to ""`},
	{"user", func(c *pgconn.Config) { c.User = "app" }, `ConnConfig.User was changed to "app"`},
	{"fallback", func(c *pgconn.Config) {
		c.Fallbacks = []*pgconn.FallbackConfig{{Host: "evil.example.com", Port: 5432}}
	}, "ConnConfig.Fallbacks has 1 entries"},
	{"no TLS", func(c *pgconn.Config) { c.TLSConfig = nil }, "ConnConfig.TLSConfig was set to nil"},
	{"InsecureSkipVerify", func(c *pgconn.Config) { c.TLSConfig.InsecureSkipVerify = true }, "ConnConfig.TLSConfig.InsecureSkipVerify"},
	{"other name", func(c *pgconn.Config) { c.TLSConfig.ServerName = "evil.example.com" }, `ConnConfig.TLSConfig.ServerName was changed to "evil.example.com"`},
	{"fresh TLSConfig", func(c *pgconn.Config) { c.TLSConfig = &tls.Config{} }, `ConnConfig.TLSConfig.ServerName was changed to ""`},
	{"old TLS", func(c *pgconn.Config) { c.TLSConfig.MinVersion = tls.VersionTLS10 }, "ConnConfig.TLSConfig allows less than TLS 1.2"},
	{"only old TLS", func(c *pgconn.Config) { c.TLSConfig.MaxVersion = tls.VersionTLS11 }, "ConnConfig.TLSConfig allows less than TLS 1.2"},
	{"clock", func(c *pgconn.Config) { c.TLSConfig.Time = func() time.Time { return time.Time{} } }, "ConnConfig.TLSConfig.Time"},
	{"no ALPN", func(c *pgconn.Config) { c.TLSConfig.NextProtos = nil }, "ConnConfig.TLSConfig.NextProtos"},
}

func TestWithPoolConfigCannotBreakTheSeal(t *testing.T) {
	for _, tt := range tampering {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials),
				dsql.WithPoolConfig(func(p *pgxpool.Config) error { tt.change(&p.ConnConfig.Config); return nil }))
			require.ErrorContains(t, err, "dsql: WithPoolConfig: "+tt.want)
		})
	}
}

func TestBeforeConnectCannotBreakTheSeal(t *testing.T) {
	cases := append(tampering[:len(tampering):len(tampering)], []struct {
		name   string
		change func(*pgconn.Config)
		want   string
	}{
		{"roots", func(c *pgconn.Config) { c.TLSConfig.RootCAs = x509.NewCertPool() }, "ConnConfig.TLSConfig.RootCAs"},
		{"password", func(c *pgconn.Config) { c.Password = "hunter2" }, "ConnConfig.Password was set: tokens are made for you"},
	}...)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			s, opts := harness.Start(t, fakepg.Hooks{})
			pool := harness.NewPool(t, harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
				p.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { tt.change(&c.Config); return nil }
				return nil
			}))...)
			err := harness.Ping(t, pool)
			require.ErrorContains(t, err, "dsql: before connecting: "+tt.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.Zero(t, s.Accepted(), "nothing was dialed")
		})
	}
}

// tracer changes the configuration after every other hook, just before the dial.
type tracer struct{ change func(*pgconn.Config) }

func (tr tracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	tr.change(&data.ConnConfig.Config)
	return ctx
}
func (tracer) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) {}
func (tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestTracerCannotBreakTheSeal(t *testing.T) {
	for _, tt := range tampering {
		t.Run(tt.name, func(t *testing.T) {
			s, opts := harness.Start(t, fakepg.Hooks{})
			pool := harness.NewPool(t, harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
				p.ConnConfig.Tracer = tracer{tt.change}
				return nil
			}))...)
			require.ErrorContains(t, harness.Ping(t, pool), tt.want)
			require.Empty(t, s.Conns(), "no startup message was sent")
		})
	}
}

func TestAfterNetConnectCannotBreakTheSeal(t *testing.T) {
	for _, tt := range tampering {
		t.Run(tt.name, func(t *testing.T) {
			s, opts := harness.Start(t, fakepg.Hooks{})
			pool := harness.NewPool(t, harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
				p.ConnConfig.AfterNetConnect = func(_ context.Context, c *pgconn.Config, conn net.Conn) (net.Conn, error) {
					tt.change(c)
					return conn, nil
				}
				return nil
			}))...)
			require.ErrorContains(t, harness.Ping(t, pool), "dsql: after AfterNetConnect: "+tt.want)
			require.Empty(t, s.Conns(), "no startup message was sent")
		})
	}
}

func TestHooksOfTheCallerRun(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	var order []string
	note := func(what string) { order = append(order, what) }
	opts = append(opts[:2:2], dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			require.Empty(t, c.Password, "it runs before the token is made")
			c.RuntimeParams["search_path"] = "app"
			note("BeforeConnect")
			return nil
		}
		p.ConnConfig.LookupFunc = func(_ context.Context, name string) ([]string, error) {
			note("LookupFunc " + name)
			return []string{"192.0.2.1"}, nil
		}
		p.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			note("DialFunc " + address)
			return harness.DialTo(s.Addr)(ctx, network, address)
		}
		p.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
			require.IsType(t, &tls.Conn{}, conn)
			note("AfterNetConnect")
			return conn, nil
		}
		p.ConnConfig.Tracer = tracer{func(*pgconn.Config) { note("Tracer") }}
		p.ConnConfig.ValidateConnect = func(context.Context, *pgconn.PgConn) error { note("ValidateConnect"); return nil }
		p.AfterConnect = func(context.Context, *pgx.Conn) error { note("AfterConnect"); return nil }
		return nil
	}))
	require.NoError(t, harness.Ping(t, harness.NewPool(t, opts...)))
	require.Equal(t, []string{
		"BeforeConnect", "Tracer", "LookupFunc " + host, "DialFunc 192.0.2.1:5432", "AfterNetConnect", "ValidateConnect", "AfterConnect",
	}, order)
	require.Equal(t, "app", s.Conns()[0].Parameters["search_path"])
}

func TestErrorOfACallersHookComesThrough(t *testing.T) {
	broken := errors.New("broken")
	s, opts := harness.Start(t, fakepg.Hooks{})
	hook := func(f func(*pgxpool.Config)) dsql.Option {
		return dsql.WithPoolConfig(func(p *pgxpool.Config) error { f(p); return nil })
	}
	require.ErrorIs(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, hook(func(p *pgxpool.Config) {
		p.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return broken }
	}))...)), broken)
	require.Zero(t, s.Accepted())
	require.ErrorIs(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, hook(func(p *pgxpool.Config) {
		p.ConnConfig.AfterNetConnect = func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error) { return nil, broken }
	}))...)), broken)
	require.Empty(t, s.Conns())

	_, err := dsql.NewPool(t.Context(), host, "", harness.With(opts, dsql.WithPoolConfig(func(*pgxpool.Config) error { return broken }))...)
	require.ErrorIs(t, err, broken)
}

func TestTrustRootsSetByAPoolConfigFunctionCount(t *testing.T) {
	cert, roots := fakepg.Certificate(t, host)
	s, opts := harness.Start(t, fakepg.Hooks{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(opts[1:], dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.TLSConfig.RootCAs = roots
		return nil
	}))...)))
	require.Len(t, s.Conns(), 1)
}

func TestDialFuncGetsTheNameForCancelRequestsToo(t *testing.T) {
	canceled := make(chan struct{}, 1)
	s, opts := harness.Start(t, fakepg.Hooks{Cancel: func(pid, key uint32) {
		if pid == 1 && key == 2 {
			canceled <- struct{}{}
		}
	}})
	var dials atomic.Int64
	opts = append(opts, dsql.WithDialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		if network != "tcp" || address != host+":5432" {
			return nil, errors.New("dialed " + network + " " + address)
		}
		return harness.DialTo(s.Addr)(ctx, network, address)
	}))
	conn, err := dsql.Connect(t.Context(), host, "", opts...)
	require.NoError(t, err)
	require.NoError(t, conn.PgConn().CancelRequest(t.Context()))
	<-canceled
	require.EqualValues(t, 2, dials.Load())
	require.NoError(t, conn.Close(t.Context()))
}

func TestPoolConfigIsTheCallersToChange(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	cfg := dsql.Config{Endpoint: host}
	for _, opt := range opts {
		require.NoError(t, opt(&cfg))
	}
	c, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)

	p := c.PoolConfig()
	p.MaxConns = 3
	p.ConnConfig.RuntimeParams["application_name"] = "svc"
	p.ConnConfig.TLSConfig.ServerName = "changed"
	require.Equal(t, host, c.PoolConfig().ConnConfig.TLSConfig.ServerName, "the next copy is clean")
	require.NotEqual(t, "svc", c.PoolConfig().ConnConfig.RuntimeParams["application_name"])

	pool, err := pgxpool.NewWithConfig(t.Context(), p)
	require.NoError(t, err)
	defer pool.Close()
	require.ErrorContains(t, harness.Ping(t, pool), "ConnConfig.TLSConfig.ServerName was changed")
	require.Zero(t, s.Accepted())

	p = c.PoolConfig()
	p.ConnConfig.RuntimeParams["application_name"] = "svc"
	good, err := pgxpool.NewWithConfig(t.Context(), p)
	require.NoError(t, err)
	defer good.Close()
	require.NoError(t, harness.Ping(t, good))
	require.Equal(t, "svc", s.Conns()[0].Parameters["application_name"])
}

func TestConnConfigHasAFreshTokenAndTheSeal(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	cfg := dsql.Config{Endpoint: host}
	for _, opt := range opts {
		require.NoError(t, opt(&cfg))
	}
	c, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)

	cc, err := c.ConnConfig(t.Context())
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), cc)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.Len(t, s.Conns(), 1)

	cc, err = c.ConnConfig(t.Context())
	require.NoError(t, err)
	cc.Fallbacks = []*pgconn.FallbackConfig{{Host: host, Port: 5432}}
	_, err = pgx.ConnectConfig(t.Context(), cc)
	require.ErrorContains(t, err, "ConnConfig.Fallbacks has 1 entries")
	require.Len(t, s.Conns(), 1)
}
