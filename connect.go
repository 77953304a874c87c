package dsql

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/time/rate"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/failover"
	"github.com/go-dsql/dsql/internal/redact"
	"github.com/go-dsql/dsql/internal/seal"
	"github.com/go-dsql/dsql/internal/sqlstate"
)

// turnTimeout bounds the wait for the limiter: pgxpool's context has no deadline.
const turnTimeout = time.Minute

// prepare makes cc ready to connect with, now. It runs the caller's own hook, checks the seal, gets
// credentials, waits for the limiter, and installs a gate behind all of the caller's hooks. The
// token is not in cc yet: the gate adds it when the server has been verified.
func (c *Connector) prepare(ctx context.Context, cc *pgx.ConnConfig) (*gate, error) {
	if c.userBeforeConnect != nil {
		if err := c.userBeforeConnect(ctx, cc); err != nil {
			return nil, err
		}
	}
	if err := c.seal.Check("before connecting", &cc.Config); err != nil {
		return nil, err
	}
	if _, err := c.retrieve(ctx, c.credentialsTimeout); err != nil {
		return nil, err // before the limiter is asked
	}
	waited := time.Now()
	if err := c.takeTurn(ctx); err != nil {
		c.logFailure(ctx, c.endpoints[0].Host, c.failedConnects, "dsql: connect limiter", err, slog.Duration("duration", time.Since(waited)), slog.String("explanation", Explain(err)))
		return nil, err
	}
	token, err := c.Token(ctx)
	if err != nil {
		return nil, err
	}
	g := &gate{c: c, next: cc.Tracer, token: func() string { return token }}
	if g.next != nil {
		g.Tracer = *multitracer.New(g.next)
	}
	g.hasTurn.Store(true)
	cc.Tracer = g
	lookup, dial := seal.LookupOf(cc), seal.DialOf(cc)
	cc.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if ctx.Value(attemptKey{}) == nil {
			return nil, errNoGate
		}
		return lookup(ctx, host)
	}
	cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(attemptKey{}) == nil {
			return nil, errNoGate
		}
		return dial(ctx, network, address)
	}
	return g, nil
}

var errNoGate = errors.New("dsql: ConnConfig.Tracer was replaced: set the tracer with WithPoolConfig, or have yours call the one that is there last")

func (c *Connector) takeTurn(ctx context.Context) error {
	limiter, isRate := c.limiter.(*rate.Limiter)
	if isRate && ctx.Err() == nil && limiter.Allow() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	err := c.limiter.Wait(ctx)
	if isRate && err != nil && ctx.Err() == nil {
		err = errors.Join(context.DeadlineExceeded, err) // it does not wait for a turn after the deadline
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return explain.Advise(explain.NoTurn, redact.Wrap("dsql: timed out waiting for the connect limiter", err))
	}
	return redact.Wrap("dsql: waiting for the connect limiter failed", err)
}

// gate is the tracer that every connect passes last, after the caller's hooks and tracer: it checks
// the configuration that is about to be used and wraps lookup, dial and AfterNetConnect. The
// caller's tracer takes its place again for the connection's queries.
type gate struct {
	multitracer.Tracer // calls next, if there is one, where a tracer of the caller's calls the gate

	c       *Connector
	next    pgx.QueryTracer // the caller's; may be nil
	token   func() string   // a function is printed as an address
	hasTurn atomic.Bool     // taken by prepare and not yet used
}

type attemptKey struct{}

// TraceConnectStart runs the caller's tracer and seals what it left.
func (g *gate) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	cc := data.ConnConfig
	if cc.Tracer == pgx.QueryTracer(g) { // otherwise a tracer of the caller's calls g
		cc.Tracer = g.next
	}
	if cc.Password == g.token() {
		cc.Password = ""
	}
	ctx = g.Tracer.TraceConnectStart(ctx, data)
	a := g.c.rest.NewAttempt(ctx, cc)
	if err := g.c.seal.Check("before connecting", &cc.Config); err != nil {
		g.refuse(cc, err)
	} else {
		a.Arrange(func(t *tls.Config, i int) *tls.Config { return g.ownTLS(t, g.c.endpoints[i].Region) })
		cc.DialFunc = g.dial(a, seal.LookupOf(cc), seal.DialOf(cc))
		cc.LookupFunc = seal.AsIs
		cc.AfterNetConnect = g.afterNetConnect(a, cc.AfterNetConnect)
		cc.OnPgError = g.onPgError(a, cc.OnPgError)
		cc.ValidateConnect = a.Excuse(cc.ValidateConnect)
		cc.AfterConnect = a.Excuse(cc.AfterConnect)
	}
	return context.WithValue(ctx, attemptKey{}, a)
}

// ownTLS returns a copy of the caller's configuration that only the library changes. Adding to its
// root CAs has no effect: the server is verified again with those of the seal.
func (g *gate) ownTLS(t *tls.Config, region string) *tls.Config {
	t = t.Clone()
	t.ClientSessionCache = explain.Sessions{Cache: t.ClientSessionCache, Region: region}
	return t
}

// refuse has the connect fail with err before anything is looked up: a tracer cannot return one.
func (g *gate) refuse(cc *pgx.ConnConfig, err error) {
	cc.Password, cc.Fallbacks, cc.LookupFunc = "", nil, seal.AsIs
	cc.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, err }
}

// dial returns the function by which pgx opens TCP connections. pgx sees each endpoint as one
// address, so that there is one startup message however many addresses are tried, and all of them
// within the connect timeout.
func (g *gate) dial(a *failover.Attempt, lookup pgconn.LookupFunc, dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx = context.WithValue(ctx, attemptKey{}, a)
		i := g.c.indexOf(address)
		if i < 0 {
			return g.dialCancel(ctx, a, func(ctx context.Context) (net.Conn, error) {
				return g.c.dialer.One(ctx, dial, network, address)
			})
		}
		isFirst := a.Current < 0
		if err := g.move(ctx, a, i); err != nil {
			return nil, err
		}
		if isFirst && !g.hasTurn.Swap(false) { // the configuration is used again
			if err := g.c.takeTurn(ctx); err != nil {
				a.Settled = err
				return nil, err
			}
		}
		toEndpoint := func(ctx context.Context) (net.Conn, error) {
			return g.c.dialer.Any(withEndpoint(ctx, i), g.c.endpoints[i].Host, lookup, dial, network)
		}
		conn, err := a.Dial(ctx, toEndpoint)
		if err != nil || len(g.c.endpoints) == 1 {
			return conn, err
		}
		a.TCP = g.watch(a, i, conn, toEndpoint)
		return a.TCP, nil
	}
}

// indexOf returns the index of the endpoint with the address, or -1.
func (c *Connector) indexOf(address string) int {
	host, port, _ := net.SplitHostPort(address)
	if port != seal.Port {
		return -1
	}
	return slices.IndexFunc(c.endpoints, func(e endpoint.Endpoint) bool { return e.Host == host })
}

// afterNetConnect returns the last step before the first byte of PostgreSQL's protocol: it verifies
// the server, runs the caller's hook, and adds the token.
func (g *gate) afterNetConnect(a *failover.Attempt, hook func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error)) func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error) {
	sealed := g.seals(a.Plan.Order)
	return func(ctx context.Context, cc *pgconn.Config, conn net.Conn) (net.Conn, error) {
		if a.Err = sealed.Handshake(ctx, cc, g.c.endpoints[a.Current].Host, conn); a.Err != nil {
			return conn, a.Err
		}
		if hook != nil {
			wrapped, err := hook(ctx, cc, conn)
			a.Err = err
			switch {
			case err != nil && seal.IsNil(wrapped):
				return conn, err // pgx closes what is returned
			case err != nil:
				return wrapped, err
			case seal.IsNil(wrapped):
				a.Settled = errors.New("dsql: AfterNetConnect returned neither a connection nor an error")
				return conn, a.Settled
			}
			conn = wrapped
		}
		if a.Settled = sealed.Check("after AfterNetConnect", cc); a.Settled != nil {
			return conn, a.Settled
		}
		cc.Password, a.Settled = g.tokenFor(ctx, a)
		return conn, a.Settled
	}
}

// tokenFor returns a token for the endpoint that has just been verified.
func (g *gate) tokenFor(ctx context.Context, a *failover.Attempt) (string, error) {
	if a.Current == 0 && a.Plan.Order[0] == 0 {
		return g.token(), nil
	}
	return g.c.signFor(ctx, g.c.endpoints[a.Current], g.c.credentialsTimeout)
}

// onPgError adds the first sentence of the explanation to a refusal that has no hint, for those who
// see a pool's error without [Explain]. pgx replaces errors that do not end the connection after
// the handler, so only refusals and other fatal errors can have one.
func (g *gate) onPgError(a *failover.Attempt, next pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		a.Err = e
		if sqlstate.IsSignatureExpired(e) {
			g.c.credentials.Refused()
		}
		if e.Hint == "" {
			at := g.c.endpoints[max(a.Current, 0)]
			e.Hint = explain.Hint(e, g.c.user, at.Host, at.Region)
		}
		return next == nil || next(conn, e)
	}
}

// TraceConnectEnd takes the token out of the configuration, which stays readable.
func (g *gate) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	if a, ok := ctx.Value(attemptKey{}).(*failover.Attempt); ok {
		a.Config.Password = ""
		switch {
		case data.Err == nil:
			g.c.connectedTo(ctx, a, data.Conn)
		case a.Current >= 0:
			g.c.judge(ctx, a)
		}
		a.Plan.Done()
		g.c.logConnect(ctx, g.c.endpoints[max(a.Current, 0)].Host, time.Since(a.Start), data.Err)
	}
	g.Tracer.TraceConnectEnd(ctx, data)
}

// log adds the endpoint and the role. Nothing passed to it may be a secret.
func (c *Connector) log(ctx context.Context, host string, level slog.Level, message string, attrs ...slog.Attr) {
	if c.logger == nil {
		return
	}
	attrs = append([]slog.Attr{slog.String("endpoint", host), slog.String("role", c.user)}, attrs...)
	c.logger.LogAttrs(ctx, level, message, attrs...)
}

func (c *Connector) logToken(ctx context.Context, host string, creds aws.Credentials) {
	if c.logger == nil {
		return
	}
	attrs := []slog.Attr{slog.String("credentials_source", creds.Source)}
	if creds.CanExpire {
		attrs = append(attrs, slog.Time("credentials_expire", creds.Expires))
	}
	c.log(ctx, host, slog.LevelDebug, "dsql: token made", attrs...)
}

func (c *Connector) logConnect(ctx context.Context, host string, took time.Duration, err error) {
	if c.logger == nil {
		return
	}
	duration := slog.Duration("duration", took)
	if err == nil {
		c.log(ctx, host, slog.LevelDebug, "dsql: connected", duration)
		return
	}
	c.logFailure(ctx, host, c.failedConnects, "dsql: connect failed", err, duration, slog.String("explanation", Explain(err)))
}

// logFailure logs the first failure of a second at Warn, and the others at Debug: a pool without a
// database tries again and again. What its caller canceled is not a failure.
func (c *Connector) logFailure(ctx context.Context, host string, t *throttle, message string, err error, attrs ...slog.Attr) {
	level := slog.LevelDebug
	if !errors.Is(ctx.Err(), context.Canceled) {
		if n := t.count(time.Now()); n > 0 {
			level, attrs = slog.LevelWarn, append(attrs, slog.Int("failures", n))
		}
	}
	c.log(ctx, host, level, message, append(attrs, slog.String("error", err.Error()))...)
}

// throttle lets one failure a second through.
type throttle struct {
	mu   sync.Mutex
	last time.Time // when one got through
	n    int       // failures since
}

// count returns how many failures there were since the last that got through, this one included, or
// 0 if this one is held back.
func (t *throttle) count(now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	if !t.last.IsZero() && now.Sub(t.last) < time.Second {
		return 0
	}
	n := t.n
	t.last, t.n = now, 0
	return n
}
