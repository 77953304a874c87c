package dsql_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
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

func poolConfig(f func(*pgxpool.Config)) dsql.Option {
	return dsql.WithPoolConfig(func(p *pgxpool.Config) error { f(p); return nil })
}

func noHook(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) { return conn, nil }

// attacks are changes that, one and all, once had the token sent in cleartext to another host.
func attacks(evil string) map[string]func(*pgconn.Config) {
	all := map[string]func(*pgconn.Config){
		"no TLS and no guard": func(c *pgconn.Config) { c.TLSConfig, c.AfterNetConnect = nil, noHook },
		"another host in cleartext": func(c *pgconn.Config) {
			c.Host, c.Port, c.TLSConfig, c.AfterNetConnect = "evil.example.com", 6432, nil, noHook
		},
		"another host, looked up and dialed by the tracer": func(c *pgconn.Config) {
			c.Host, c.TLSConfig, c.AfterNetConnect, c.DialFunc = "evil.example.com", nil, noHook, harness.DialTo(evil)
			c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil }
		},
		"no TLS, dialed by the tracer": func(c *pgconn.Config) {
			c.TLSConfig, c.AfterNetConnect, c.DialFunc = nil, noHook, harness.DialTo(evil)
		},
		"unverified TLS": func(c *pgconn.Config) {
			c.TLSConfig = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}}
			c.AfterNetConnect, c.DialFunc = nil, harness.DialTo(evil)
		},
		"a fallback in cleartext": func(c *pgconn.Config) {
			c.Fallbacks = []*pgconn.FallbackConfig{{Host: "evil.example.com", Port: 5432}}
		},
	}
	for _, tt := range tampering {
		all[tt.name] = tt.change
	}
	return all
}

func TestTracersAndHooksCannotSendATokenElsewhere(t *testing.T) {
	evil := fakepg.Start(t, fakepg.Hooks{}) // takes tokens in cleartext
	nothing := func(*pgconn.Config) {}
	for name, change := range attacks(evil.Addr) {
		for way, f := range map[string][2]func(*pgconn.Config){
			"tracer": {change, nothing}, "hook": {nothing, change}, "both": {change, change},
		} {
			t.Run(name+" by "+way, func(t *testing.T) {
				s, opts := harness.Start(t, fakepg.Hooks{})
				pool := harness.NewPool(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) {
					p.ConnConfig.Tracer = tracer{f[0]}
					p.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error { f[1](&cc.Config); return nil }
				}))...)
				require.ErrorContains(t, harness.Ping(t, pool), "ConnConfig.")
				require.Zero(t, s.Accepted())
			})
		}
		t.Run(name+" on the copy of ConnConfig", func(t *testing.T) {
			s, opts := harness.Start(t, fakepg.Hooks{})
			for way, edit := range map[string]func(*pgx.ConnConfig){
				"directly": func(cc *pgx.ConnConfig) { change(&cc.Config) },
				"tracer":   func(cc *pgx.ConnConfig) { cc.Tracer = tracer{change} },
			} {
				if way == "tracer" && strings.Contains(name, "dialed by the tracer") || way == "tracer" && name == "unverified TLS" {
					continue // who replaces the tracer and the dialer holds the token in Password anyway
				}
				cc := connConfig(t, opts)
				edit(cc)
				_, err := pgx.ConnectConfig(t.Context(), cc)
				require.Error(t, err, way)
				require.Zero(t, s.Accepted(), way)
			}
		})
		t.Run(name+" by OpenDB's tracer", func(t *testing.T) {
			s, opts := harness.Start(t, fakepg.Hooks{})
			db := openDB(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) { p.ConnConfig.Tracer = tracer{change} }))...)
			require.ErrorContains(t, db.PingContext(t.Context()), "ConnConfig.")
			require.Zero(t, s.Accepted())
		})
	}
	require.Zero(t, evil.Accepted())
}

func connConfig(t *testing.T, opts []dsql.Option) *pgx.ConnConfig {
	t.Helper()
	c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host}, opts...)
	require.NoError(t, err)
	cc, err := c.ConnConfig(t.Context())
	require.NoError(t, err)
	_, params := parseToken(t, cc.Password)
	require.NotEmpty(t, params.Get("X-Amz-Signature"))
	return cc
}

// A tracer may set hooks; they run, and the server is still verified.
func TestTracerThatSetsAfterNetConnectAndDialFunc(t *testing.T) {
	wrong, roots := fakepg.Certificate(t, "other.example.com")
	for name, hooks := range map[string]fakepg.Hooks{
		"the endpoint":   {},
		"another server": {TLS: &tls.Config{Certificates: []tls.Certificate{wrong}}},
	} {
		t.Run(name, func(t *testing.T) {
			s, opts := harness.Start(t, hooks)
			if hooks.TLS != nil {
				opts = harness.With(opts, dsql.WithRootCAs(roots))
			}
			var ran []string
			pool := harness.NewPool(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) {
				p.ConnConfig.Tracer = tracer{func(c *pgconn.Config) {
					require.Empty(t, c.Password, "there is no token yet")
					dial := c.DialFunc
					c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
						ran = append(ran, "dial "+address)
						return dial(ctx, network, address)
					}
					c.AfterNetConnect = func(_ context.Context, c *pgconn.Config, conn net.Conn) (net.Conn, error) {
						require.Empty(t, c.Password)
						ran = append(ran, "net")
						return conn, nil
					}
				}}
			}))...)
			err := harness.Ping(t, pool)
			if hooks.TLS == nil {
				require.NoError(t, err)
				require.Equal(t, []string{"dial " + host + ":5432", "net"}, ran)
				return
			}
			require.ErrorAs(t, err, new(x509.HostnameError))
			require.Empty(t, s.Conns())
			require.Equal(t, []string{"dial " + host + ":5432"}, ran)
		})
	}
}

func TestServerMustNegotiateALPN(t *testing.T) {
	for name, protos := range map[string][]string{"none": {}, "h2": {"h2"}} {
		for _, negotiation := range []string{"direct", "postgres"} {
			t.Run(name+", "+negotiation, func(t *testing.T) {
				s, opts := harness.Start(t, fakepg.Hooks{TLS: &tls.Config{NextProtos: protos}})
				pool := harness.NewPool(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) {
					p.ConnConfig.SSLNegotiation = negotiation
					p.ConnConfig.TLSConfig.NextProtos = []string{"postgresql", "h2"}
				}))...)
				err := harness.Ping(t, pool)
				if negotiation == "postgres" && name == "none" {
					require.NoError(t, err, "PostgreSQL's own negotiation needs no ALPN")
					return
				}
				require.ErrorContains(t, err, `the ALPN protocol "`+strings.TrimPrefix(name, "none")+`" and not "postgresql"`)
				require.Empty(t, s.Conns())
			})
		}
	}
}

func TestRootCAsAreCopied(t *testing.T) {
	evil, evilRoots := fakepg.Certificate(t, host)
	_, roots := fakepg.Certificate(t, host)
	s, opts := harness.Start(t, fakepg.Hooks{TLS: &tls.Config{Certificates: []tls.Certificate{evil}}})
	var seen *x509.CertPool
	pool := harness.NewPool(t, harness.With(opts, dsql.WithRootCAs(roots), poolConfig(func(p *pgxpool.Config) { seen = p.ConnConfig.TLSConfig.RootCAs }))...)
	for _, pool := range []*x509.CertPool{roots, seen} {
		pool.AddCert(evil.Leaf)
	}
	require.ErrorAs(t, harness.Ping(t, pool), new(x509.UnknownAuthorityError))

	hook := harness.NewPool(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) {
		p.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error { cc.TLSConfig.RootCAs = evilRoots; return nil }
		p.ConnConfig.TLSConfig.RootCAs = x509.NewCertPool()
	}))...)
	require.ErrorContains(t, harness.Ping(t, hook), "ConnConfig.TLSConfig.RootCAs was changed")
	require.Empty(t, s.Conns())

	equal := harness.NewPool(t, harness.With(opts, dsql.WithRootCAs(evilRoots), poolConfig(func(p *pgxpool.Config) {
		p.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			cc.TLSConfig.RootCAs = evilRoots.Clone()
			return nil
		}
	}))...)
	require.NoError(t, harness.Ping(t, equal), "pools are compared by what is in them")
}

func TestResumedSessionIsVerifiedAgain(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	_, otherRoots := fakepg.Certificate(t, host)
	cache := poolConfig(func(cache tls.ClientSessionCache) func(*pgxpool.Config) {
		return func(p *pgxpool.Config) { p.ConnConfig.TLSConfig.ClientSessionCache = cache }
	}(tls.NewLRUClientSessionCache(0)))
	trusting := harness.NewPool(t, harness.With(opts, cache)...)
	require.NoError(t, harness.Ping(t, trusting))
	trusting.Reset()
	require.NoError(t, harness.Ping(t, trusting))
	require.True(t, s.Conns()[1].TLS.DidResume)

	other := harness.NewPool(t, harness.With(opts, cache, dsql.WithRootCAs(otherRoots))...)
	require.ErrorAs(t, harness.Ping(t, other), new(x509.UnknownAuthorityError))
	require.Len(t, s.Conns(), 2)
}

func TestInsecureTLSSettingsAreRefused(t *testing.T) {
	for want, change := range map[string]func(*tls.Config){
		"KeyLogWriter": func(t *tls.Config) { t.KeyLogWriter = io.Discard },
		"CipherSuites": func(t *tls.Config) { t.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA} },
	} {
		_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials),
			poolConfig(func(p *pgxpool.Config) { change(p.ConnConfig.TLSConfig) }))
		require.ErrorContains(t, err, "dsql: WithPoolConfig: ConnConfig.TLSConfig."+want)
	}
}

func TestNonsenseOfAPoolFunctionIsRefused(t *testing.T) {
	for want, edit := range map[string]func(*pgxpool.Config){
		"HealthCheckPeriod is 0s and must be over 0":                func(p *pgxpool.Config) { p.HealthCheckPeriod = 0 },
		"MaxConns is 0 and must be 1 or more":                       func(p *pgxpool.Config) { p.MaxConns = 0 },
		"MinConns is -1":                                            func(p *pgxpool.Config) { p.MinConns = -1 },
		"ConnConfig was set to nil":                                 func(p *pgxpool.Config) { p.ConnConfig = nil },
		"one that ParseConfig did not make":                         func(p *pgxpool.Config) { *p = pgxpool.Config{ConnConfig: p.ConnConfig, MaxConns: 1} },
		"by one that ParseConfig did not make":                      func(p *pgxpool.Config) { p.ConnConfig = &pgx.ConnConfig{} },
		"was replaced by one that ParseConfig did not make":         func(p *pgxpool.Config) { p.ConnConfig.Config = pgconn.Config{} },
		"ConnConfig.Password was set: tokens are made for you":      func(p *pgxpool.Config) { p.ConnConfig.Password = "hunter2" },
		"ConnConfig.ConnectTimeout is 0s and must be over 0":        func(p *pgxpool.Config) { p.ConnConfig.ConnectTimeout = 0 },
		"ConnConfig.BuildFrontend was set to nil":                   func(p *pgxpool.Config) { p.ConnConfig.BuildFrontend = nil },
		"ConnConfig.BuildContextWatcherHandler was set to nil":      func(p *pgxpool.Config) { p.ConnConfig.BuildContextWatcherHandler = nil },
		`ConnConfig.MinProtocolVersion was changed to "9"`:          func(p *pgxpool.Config) { p.ConnConfig.MinProtocolVersion = "9" },
		`ConnConfig.MaxProtocolVersion was changed to "9"`:          func(p *pgxpool.Config) { p.ConnConfig.MaxProtocolVersion = "9" },
		`ConnConfig.SSLNegotiation was changed to ""`:               func(p *pgxpool.Config) { p.ConnConfig.SSLNegotiation = "" },
		`ConnConfig.SSLCertMode was changed to "require"`:           func(p *pgxpool.Config) { p.ConnConfig.SSLCertMode = "require" },
		`ConnConfig.ChannelBinding was changed to "require"`:        func(p *pgxpool.Config) { p.ConnConfig.ChannelBinding = "require" },
		`ConnConfig.RequireAuth was changed to "scram-sha-256"`:     func(p *pgxpool.Config) { p.ConnConfig.RequireAuth = "scram-sha-256" },
		`DSQL refuses the parameter "work_mem"`:                     func(p *pgxpool.Config) { p.ConnConfig.RuntimeParams["work_mem"] = "1" },
		"ConnConfig.Fallbacks has 1 entries and must be empty":      func(p *pgxpool.Config) { p.ConnConfig.Fallbacks = []*pgconn.FallbackConfig{{}} },
		"MaxConnLifetimeJitter is -1ns and must be 0 or more":       func(p *pgxpool.Config) { p.MaxConnLifetimeJitter = -1 },
		"must stay under the 1h0m0s after which DSQL closes a conn": func(p *pgxpool.Config) { p.MaxConnLifetime = time.Hour },
	} {
		_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), poolConfig(edit))
		require.ErrorContains(t, err, want)
		require.True(t, strings.HasPrefix(err.Error(), "dsql: "), err)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestNilFunctionsMeanTheDefaultAndNilConnectionsAnError(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, poolConfig(func(p *pgxpool.Config) { p.ConnConfig.LookupFunc = nil }))...)))
	require.Len(t, s.Conns(), 1)
	for want, option := range map[string]dsql.Option{
		"DialFunc returned neither": dsql.WithDialFunc(func(context.Context, string, string) (net.Conn, error) { return nil, nil }),
		"returned neither a conn": dsql.WithDialFunc(func(context.Context, string, string) (net.Conn, error) {
			return (*net.TCPConn)(nil), nil
		}),
		"AfterNetConnect returned neither": poolConfig(func(p *pgxpool.Config) {
			p.ConnConfig.AfterNetConnect = func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error) { return nil, nil }
		}),
		"LookupFunc returned no address": poolConfig(func(p *pgxpool.Config) {
			p.ConnConfig.LookupFunc = func(context.Context, string) ([]string, error) { return nil, nil }
		}),
	} {
		require.ErrorContains(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, option)...)), want)
	}
	pool := harness.NewPool(t, dsql.WithCredentials(harness.Credentials), poolConfig(func(p *pgxpool.Config) {
		p.ConnConfig.DialFunc, p.ConnConfig.ConnectTimeout = nil, time.Nanosecond
	}))
	require.Error(t, harness.Ping(t, pool), "the default dialer has no time")
}
