package explain_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestExplainCertificates(t *testing.T) {
	otherName, otherNameRoots := fakepg.Certificate(t, "other.dsql.us-east-1.on.aws")
	unknown, _ := fakepg.Certificate(t, host)
	for _, tt := range []struct {
		name  string
		cert  tls.Certificate
		roots *x509.CertPool
		want  []string
	}{
		{"unknown authority", unknown, x509.NewCertPool(), []string{"ca-certificates.crt", "inspects TLS", "WithRootCAs"}},
		{"authority that the system does not know", unknown, nil, []string{"ca-certificates.crt"}},
		{"other name", otherName, otherNameRoots, []string{"is not " + host, "WithDialAddress"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, opts := harness.Start(t, fakepg.Hooks{TLS: &tls.Config{Certificates: []tls.Certificate{tt.cert}}})
			opts = opts[1:]
			if tt.roots != nil {
				opts = harness.With(opts, dsql.WithRootCAs(tt.roots))
			}
			requireExplained(t, harness.Ping(t, harness.NewPool(t, opts...)), tt.want...)
		})
	}
	t.Run("expired", func(t *testing.T) {
		cert, roots := fakepg.ExpiredCertificate(t, host)
		_, opts := harness.Start(t, fakepg.Hooks{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
		requireExplained(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, dsql.WithRootCAs(roots))...)), "clock")
	})
}

// resolver returns a resolver whose DNS server answers every question with NXDOMAIN.
func resolver(t *testing.T) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	go func() {
		packet := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			packet[2] |= 0x80              // an answer
			packet[3] = packet[3]&0xf0 | 3 // NXDOMAIN
			_, _ = server.WriteTo(packet[:n], from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func withLookup(f pgconn.LookupFunc) dsql.Option {
	return dsql.WithPoolConfig(func(p *pgxpool.Config) error { p.ConnConfig.LookupFunc = f; return nil })
}

func TestExplainUnknownName(t *testing.T) {
	err := harness.Ping(t, harness.NewPool(t, dsql.WithCredentials(harness.Credentials), withLookup(resolver(t).LookupHost)))
	var dns *net.DNSError
	require.ErrorAs(t, err, &dns)
	require.True(t, dns.IsNotFound)
	requireExplained(t, err, "DNS has no address for "+host, "<cluster ID>.dsql.<region>.on.aws", "right region")
}

// With a dial address, the explanation does not blame the endpoint.
func TestExplainDialAddress(t *testing.T) {
	previous := net.DefaultResolver
	defer func() { net.DefaultResolver = previous }()
	net.DefaultResolver = resolver(t)
	text := dsql.Explain(harness.Ping(t, harness.NewPool(t, dsql.WithCredentials(harness.Credentials), dsql.WithDialAddress("bastion.example"))))
	require.Contains(t, text, "No address was found for bastion.example:5432, where TCP connections are routed")
	require.NotContains(t, text, host)

	for name, setup := range map[string]func(ctx context.Context) error{
		"The TCP connection to bastion.example:6432 timed out": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"The lookup of bastion.example:6432 timed out": func(ctx context.Context) error {
			<-ctx.Done()
			return &net.DNSError{Name: "bastion.example", IsTimeout: true, UnwrapErr: ctx.Err()}
		},
	} {
		pool := harness.NewPool(t, dsql.WithCredentials(harness.Credentials), dsql.WithDialAddress("bastion.example:6432"),
			dsql.WithPoolConfig(func(p *pgxpool.Config) error {
				p.ConnConfig.ConnectTimeout = 20 * time.Millisecond
				p.ConnConfig.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return nil, setup(ctx) }
				return nil
			}))
		text := dsql.Explain(harness.Ping(t, pool))
		require.Contains(t, text, name)
		require.NotContains(t, text, host)
	}
}

func TestExplainNothingListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	requireExplained(t, harness.Ping(t, harness.NewPool(t, dsql.WithCredentials(harness.Credentials), dsql.WithDialAddress(address))), "Nothing listens", "tunnel")
}

// deadline is a context that expires when expire is called.
type deadline struct {
	context.Context
	done   chan struct{}
	expire func()
}

func newDeadline(t *testing.T) deadline {
	done := make(chan struct{})
	return deadline{t.Context(), done, sync.OnceFunc(func() { close(done) })}
}

func (d deadline) Done() <-chan struct{} { return d.done }

func (d deadline) Err() error {
	select {
	case <-d.done:
		return context.DeadlineExceeded
	default:
		return d.Context.Err()
	}
}

// afterFirstByte expires d once the client has dialed and sent a byte.
func afterFirstByte(d deadline, released <-chan struct{}) func(net.Conn) error {
	return func(c net.Conn) error {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			return err
		}
		d.expire()
		<-released
		return net.ErrClosed
	}
}

func TestExplainTimeouts(t *testing.T) {
	for _, tt := range []struct {
		step  string
		setup func(d deadline, released <-chan struct{}) (fakepg.Hooks, []dsql.Option)
		want  string
	}{
		{"DNS", func(d deadline, _ <-chan struct{}) (fakepg.Hooks, []dsql.Option) {
			return fakepg.Hooks{}, []dsql.Option{withLookup(func(ctx context.Context, name string) ([]string, error) {
				r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					d.expire()
					<-ctx.Done()
					return nil, ctx.Err()
				}}
				return r.LookupHost(ctx, name)
			})}
		}, "(DNS)"},
		{"TCP", func(d deadline, _ <-chan struct{}) (fakepg.Hooks, []dsql.Option) {
			return fakepg.Hooks{}, []dsql.Option{dsql.WithDialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
				d.expire()
				<-ctx.Done()
				return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:1")
			})}
		}, "The TCP connection to " + host + " timed out"},
		{"TLS", func(d deadline, released <-chan struct{}) (fakepg.Hooks, []dsql.Option) {
			return fakepg.Hooks{Accept: afterFirstByte(d, released)}, nil
		}, "The TLS handshake with " + host + " timed out"},
		{"negotiation of TLS", func(d deadline, released <-chan struct{}) (fakepg.Hooks, []dsql.Option) {
			return fakepg.Hooks{Accept: afterFirstByte(d, released)},
				[]dsql.Option{func(c *dsql.Config) error { c.Settings = map[string]string{"sslnegotiation": "postgres"}; return nil }}
		}, "The TLS handshake with " + host + " timed out"},
		{"startup message", func(d deadline, released <-chan struct{}) (fakepg.Hooks, []dsql.Option) {
			return fakepg.Hooks{Startup: func(*fakepg.Conn) error { d.expire(); <-released; return net.ErrClosed }}, nil
		}, "(authentication)"},
		{"token", func(d deadline, released <-chan struct{}) (fakepg.Hooks, []dsql.Option) {
			return fakepg.Hooks{Password: func(*fakepg.Conn) error { d.expire(); <-released; return net.ErrClosed }}, nil
		}, "(authentication)"},
	} {
		t.Run(tt.step, func(t *testing.T) {
			released := make(chan struct{})
			d := newDeadline(t)
			hooks, more := tt.setup(d, released)
			_, opts := harness.Start(t, hooks)
			defer close(released)
			_, err := dsql.Connect(d, host, "", harness.With(opts, more...)...)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			requireExplained(t, err, tt.want)
			require.ErrorContains(t, err, dsql.Explain(err), "Connect's error has it already")
		})
	}
}

// answering is a server on TCP that reads a little and answers with text.
func answering(t *testing.T, text string) dsql.Option {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(text))
			c.Close()
		}
	}()
	return dsql.WithDialAddress(listener.Addr().String())
}

func TestExplainWhatIsNotTLS(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"an HTTP proxy", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "An HTTP proxy"},
		{"SSH", "SSH-2.0-OpenSSH_9.9\r\n", "did not respond with TLS"},
		{"a middlebox", "", "closed during the TLS handshake"},
		{"a handshake that is refused", "\x15\x03\x03\x00\x02\x02\x28", "rejected the TLS handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pool := harness.NewPool(t, dsql.WithCredentials(harness.Credentials), answering(t, tt.text))
			requireExplained(t, harness.Ping(t, pool), tt.want)
		})
	}
	t.Run("a reset", func(t *testing.T) {
		_, opts := harness.Start(t, fakepg.Hooks{Accept: func(c net.Conn) error {
			tcp, ok := c.(*net.TCPConn)
			if !ok {
				return net.ErrClosed
			}
			_ = tcp.SetLinger(0)
			return net.ErrClosed
		}})
		requireExplained(t, harness.Ping(t, harness.NewPool(t, opts...)), "closed during the TLS handshake")
	})
	t.Run("after TLS", func(t *testing.T) {
		_, opts := harness.Start(t, fakepg.Hooks{Startup: func(*fakepg.Conn) error { return net.ErrClosed }})
		requireExplained(t, harness.Ping(t, harness.NewPool(t, opts...)), "closed during authentication")
	})
}
