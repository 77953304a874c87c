package failover

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// fairTry is how long a try must have lasted to say something of the endpoint, if the caller's
// context ended it.
const fairTry = time.Second

// Attempt is one connect: to one endpoint after another until one succeeds.
type Attempt struct {
	Config  *pgx.ConnConfig
	Plan    *Plan
	TLS     []*tls.Config // by endpoint
	Start   time.Time
	Current int       // endpoint being tried, or connected to; -1: none yet
	Began   time.Time // of the current try
	TCP     net.Conn  // of the current try

	Err     error // why the current try failed, as far as is known
	Settled error // why no other endpoint is tried

	deadline time.Time     // of the caller's context; zero: none
	share    time.Duration // of the deadline for the current try; 0: all of it
	excused  bool          // the current try got through; what fails now is not the endpoint
	ready    atomic.Bool   // the fields no longer change
}

// NewAttempt plans a connect with cc.
func (s *Set) NewAttempt(ctx context.Context, cc *pgx.ConnConfig) *Attempt {
	a := &Attempt{Config: cc, Plan: s.Plan(), TLS: make([]*tls.Config, len(s.endpoints)), Start: time.Now(), Current: -1}
	a.deadline, _ = ctx.Deadline()
	return a
}

// Arrange has the configuration try the endpoints in the order of the plan, each with the TLS
// configuration that own returns.
func (a *Attempt) Arrange(own func(t *tls.Config, i int) *tls.Config) {
	cc := &a.Config.Config
	all := append([]*pgconn.FallbackConfig{{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}}, cc.Fallbacks...)
	cc.Fallbacks = nil
	for n, i := range a.Plan.Order {
		f := all[i]
		f.TLSConfig = own(f.TLSConfig, i)
		a.TLS[i] = f.TLSConfig
		if n == 0 {
			cc.Host, cc.Port, cc.TLSConfig = f.Host, f.Port, f.TLSConfig
			continue
		}
		cc.Fallbacks = append(cc.Fallbacks, f)
	}
}

// Move makes endpoint i the current one.
func (a *Attempt) Move(i int) {
	a.Current, a.Began, a.share, a.Err, a.excused = i, time.Now(), 0, nil, false
	left := len(a.Plan.Order) - slices.Index(a.Plan.Order, i)
	if !a.deadline.IsZero() && left > 1 {
		a.share = time.Until(a.deadline) / time.Duration(left)
	}
}

// Dial bounds the try of the current endpoint by its share of the caller's deadline, until Done.
func (a *Attempt) Dial(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if a.share > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.share)
		defer cancel()
	}
	conn, err := dial(ctx)
	a.Err = err
	if err == nil && a.share > 0 {
		_ = conn.SetDeadline(a.Began.Add(a.share))
	}
	return conn, err
}

// Judge settles the attempt if the failure of the current try holds for all endpoints. It reports
// whether the endpoint is to rest, and whether open connections to it are lost.
func (a *Attempt) Judge(ctx context.Context) (rests, lost bool) {
	var refusal *pgconn.PgError
	took := time.Since(a.Began)
	switch {
	case a.Settled != nil:
		return false, false
	case errors.Is(ctx.Err(), context.Canceled):
		a.Settled = ctx.Err()
		return false, false
	case a.excused:
		return false, false
	case errors.As(a.Err, &refusal) && !sqlstate.IsOfEndpoint(refusal):
		a.Settled = a.Err
		return false, false
	case took < fairTry && (ctx.Err() != nil || a.share > 0 && took >= a.share):
		return false, false // it had too little time
	}
	return true, refusal == nil || !sqlstate.KeepsConnections(refusal)
}

// Excuse returns a hook of the caller's on a ready connection, or nil, such that its failure is not
// the endpoint's.
func (a *Attempt) Excuse(hook func(context.Context, *pgconn.PgConn) error) func(context.Context, *pgconn.PgConn) error {
	if hook == nil {
		return nil
	}
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		a.excused = true
		return hook(ctx, conn)
	}
}

// Done ends the attempt with a connection to the current endpoint.
func (a *Attempt) Done(conn *pgx.Conn) {
	if a.share > 0 {
		_ = conn.PgConn().Conn().SetDeadline(time.Time{})
	}
	opened(conn, a.Current, a.Began)
	a.ready.Store(true)
}

// IsReady reports whether there is a connection, whose endpoint no longer changes.
func (a *Attempt) IsReady() bool { return a.ready.Load() }
