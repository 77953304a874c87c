package dsql

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/failover"
	"github.com/go-dsql/dsql/internal/seal"
	"github.com/go-dsql/dsql/internal/sqlstate"
)

// Peer is another endpoint of a multi-Region cluster. See [WithFailover].
type Peer struct {
	Endpoint string // as Config.Endpoint
	Region   string // as Config.Region; empty: inferred from the endpoint
}

// EndpointState describes one endpoint of a cluster, for a health page.
type EndpointState struct {
	Endpoint string    // host name
	Region   string    // AWS Region that its tokens are signed for
	Resting  bool      // new connections do not try it
	Until    time.Time // when one connection tries it again; zero if it has not failed
	Cause    string    // of its last failure; "" if a connection succeeded since
}

// Endpoints returns the state of the cluster's endpoints in order of preference: new connections go
// to the first that is not resting. Without [WithFailover] there is one, which never rests.
func (c *Connector) Endpoints() []EndpointState {
	states := make([]EndpointState, len(c.endpoints))
	for i, s := range c.rest.States() {
		states[i] = EndpointState{c.endpoints[i].Host, c.endpoints[i].Region, s.Resting, s.Until, s.Cause}
	}
	return states
}

// resolvePeers completes the endpoints by the peers, in order of preference.
func (c *Connector) resolvePeers(cfg Config) error {
	c.endpoints = []endpoint.Endpoint{c.endpoint}
	for _, peer := range cfg.Failover {
		e, err := parsePeer(peer)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(c.endpoints, func(other endpoint.Endpoint) bool { return other.Host == e.Host }) {
			return fmt.Errorf("dsql: the peer %q is given twice, or is the cluster's own endpoint: use the endpoint in another Region", e.Host)
		}
		c.endpoints = append(c.endpoints, e)
	}
	if cfg.NearestFirst {
		here := os.Getenv("AWS_REGION")
		slices.SortStableFunc(c.endpoints, func(a, b endpoint.Endpoint) int {
			return cmp.Compare(distance(a.Region, here), distance(b.Region, here))
		})
		c.endpoint = c.endpoints[0]
	}
	c.rest = failover.New(len(c.endpoints))
	c.watchdogs = make([]failover.Watchdog, len(c.endpoints))
	return nil
}

func distance(region, here string) int {
	if region == here {
		return 0
	}
	return 1
}

func parsePeer(p Peer) (endpoint.Endpoint, error) {
	e, err := endpoint.Parse(p.Endpoint)
	if err == nil && e.Host == "" && strings.TrimSpace(p.Region) == "" {
		err = fmt.Errorf("dsql: the cluster ID %q of a peer needs a region: set it, or use %s.dsql.<region>.on.aws", e.ClusterID, e.ClusterID)
	}
	if err == nil {
		e, err = e.In(p.Region)
	}
	return e, err
}

// parsePeers reads a list as ParseURL and FromEnv take it: endpoint[/region],…
func parsePeers(list string) ([]Peer, error) {
	var peers []Peer
	for given := range strings.SplitSeq(list, ",") {
		host, region, _ := strings.Cut(given, "/")
		p := Peer{strings.TrimSpace(host), strings.TrimSpace(region)}
		e, err := parsePeer(p)
		if err != nil {
			return nil, err
		}
		peers = append(peers, Peer{e.Name(), p.Region})
	}
	return peers, nil
}

// formatPeers writes a list for parsePeers.
func formatPeers(peers []Peer) string {
	var list []string
	for _, p := range peers {
		if p.Region != "" {
			p.Endpoint += "/" + p.Region
		}
		list = append(list, p.Endpoint)
	}
	return strings.Join(list, ",")
}

// addPeers adds the peers to cc and to the seal, each with the TLS configuration that the caller left.
func (c *Connector) addPeers(cc *pgx.ConnConfig) {
	for _, peer := range c.endpoints[1:] {
		t := cc.TLSConfig.Clone()
		t.ServerName = peer.Host
		cc.Fallbacks = append(cc.Fallbacks, &pgconn.FallbackConfig{Host: peer.Host, Port: endpoint.Port, TLSConfig: t})
		c.seal.Peers = append(c.seal.Peers, peer.Host)
	}
}

// attempt is one connect that passes the gate: to one endpoint after another until one succeeds.
type attempt struct {
	config   *pgx.ConnConfig
	start    time.Time
	deadline time.Time // of the caller's context; zero: none
	plan     *failover.Plan

	tls       []*tls.Config // of each endpoint of the plan
	current   int           // endpoint being tried, or connected to; -1: none yet
	began     time.Time     // of the current try
	share     time.Duration // of the deadline for the current try; 0: all of it
	tcp       net.Conn      // of the current try
	err       error         // why it failed, as far as the gate has seen
	settled   error         // why no other endpoint is tried
	connected bool
	ready     atomic.Bool // the fields no longer change
}

// move makes endpoint i the current one, after the failure of the one before. The token of the one
// before is removed.
func (g *gate) move(ctx context.Context, a *attempt, i int) error {
	a.config.Password = ""
	if a.current >= 0 {
		g.c.judge(ctx, a, a.err)
	}
	if a.settled != nil {
		return explain.ErrNotTried
	}
	a.current, a.began, a.share, a.err = i, time.Now(), 0, nil
	left := len(a.plan.Order) - slices.Index(a.plan.Order, i)
	if !a.deadline.IsZero() && left > 1 {
		a.share = time.Until(a.deadline) / time.Duration(left)
	}
	return nil
}

// bound bounds the try of the current endpoint by its share of the caller's deadline, until
// TraceConnectEnd.
func (a *attempt) bound(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if a.share > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.share)
		defer cancel()
	}
	conn, err := dial(ctx)
	a.err = err
	if err == nil && a.share > 0 {
		_ = conn.SetDeadline(a.began.Add(a.share))
	}
	return conn, err
}

// watch has conn, to endpoint i, closed if the endpoint falls silent. dial opens another connection
// to it.
func (g *gate) watch(a *attempt, i int, conn net.Conn, dial func(context.Context) (net.Conn, error)) net.Conn {
	return g.c.watchdogs[i].Watch(conn, failover.Probe{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return dial(context.WithValue(ctx, attemptKey{}, a))
		},
		TLS: a.tls[i],
		Silent: func(began time.Time, err error) {
			g.c.failed(context.Background(), i, began, true, err)
		},
	})
}

// fairTry is how long a try must have lasted to say something of the endpoint, if the caller's
// context ended it.
const fairTry = time.Second

// judge has the current endpoint rest if the failure is its own, or settles the attempt.
func (c *Connector) judge(ctx context.Context, a *attempt, err error) {
	var refusal *pgconn.PgError
	isShort := time.Since(a.began) < fairTry
	switch {
	case a.settled != nil, a.connected:
	case errors.Is(ctx.Err(), context.Canceled):
		a.settled = ctx.Err()
	case errors.As(err, &refusal) && !sqlstate.IsOfEndpoint(refusal):
		a.settled = err
	case isShort && (ctx.Err() != nil || a.share > 0 && time.Since(a.began) >= a.share):
	default:
		c.failed(ctx, a.current, a.began, refusal == nil || !sqlstate.KeepsConnections(refusal), err)
	}
}

// failed has endpoint i rest after a try that began at began.
func (c *Connector) failed(ctx context.Context, i int, began time.Time, lost bool, err error) {
	cause := "the connection was closed, or not answered in time, before it was ready"
	if err != nil {
		cause = err.Error()
	}
	if !c.rest.Failed(i, began, lost, cause) {
		return
	}
	c.logAt(ctx, c.endpoints[i].Host, slog.LevelWarn, "dsql: endpoint rests", slog.Time("until", c.rest.States()[i].Until), slog.String("error", cause))
	if lost {
		go c.sweep()
	}
}

// connectedTo notes the endpoint of a new connection.
func (c *Connector) connectedTo(ctx context.Context, a *attempt, conn *pgx.Conn) {
	if a.share > 0 {
		_ = conn.PgConn().Conn().SetDeadline(time.Time{})
	}
	conn.PgConn().CustomData()[placeKey] = place{a.current, a.began, rand.Float64()}
	a.ready.Store(true)
	if c.rest.Succeeded(a.current, a.began) {
		c.logAt(ctx, c.endpoints[a.current].Host, slog.LevelInfo, "dsql: endpoint is back")
	}
}

// place says which endpoint a connection is to, and since when.
type place struct {
	endpoint int
	opened   time.Time
	part     float64 // of the time in which connections are retired
}

// placeKey is the key of a connection's place in its custom data.
const placeKey = "dsql.place"

// isSpent reports whether conn is to be closed rather than used again.
func (c *Connector) isSpent(conn *pgx.Conn) bool {
	p, ok := conn.PgConn().CustomData()[placeKey].(place)
	return ok && c.rest.Spent(p.endpoint, p.opened, p.part)
}

// retire adds to p's hooks that spent connections are closed before they are used again.
func (c *Connector) retire(p *pgxpool.Config) {
	ping := p.ShouldPing
	p.ShouldPing = func(ctx context.Context, params pgxpool.ShouldPingParams) bool {
		switch {
		case c.isSpent(params.Conn): // it might not answer
			return false
		case ping != nil:
			return ping(ctx, params)
		}
		return params.IdleDuration > time.Second // pgxpool's default
	}
	prepare := p.PrepareConn
	acquire := p.BeforeAcquire //lint:ignore SA1019 the caller may still use it
	p.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		switch {
		case c.isSpent(conn):
			return false, nil
		case prepare != nil:
			return prepare(ctx, conn)
		case acquire != nil:
			return acquire(ctx, conn), nil
		}
		return true, nil
	}
}

// sweep closes the spent ones of the idle connections of c's pools.
func (c *Connector) sweep() {
	for _, pool := range c.pools.all() {
		for _, conn := range pool.AcquireAllIdle(context.Background()) {
			conn.Release()
		}
	}
}

// poolList are pools that are in use, without keeping them so.
type poolList struct {
	mu    sync.Mutex
	pools []weak.Pointer[pgxpool.Pool]
}

func (l *poolList) add(pool *pgxpool.Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pools = slices.DeleteFunc(l.pools, func(p weak.Pointer[pgxpool.Pool]) bool { return p.Value() == nil })
	l.pools = append(l.pools, weak.Make(pool))
}

func (l *poolList) all() (pools []*pgxpool.Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pools {
		if pool := p.Value(); pool != nil {
			pools = append(pools, pool)
		}
	}
	return pools
}

// endpointKey is the key of the index of the endpoint that a context's dial is for.
type endpointKey struct{}

func withEndpoint(ctx context.Context, i int) context.Context {
	return context.WithValue(ctx, endpointKey{}, i)
}

func endpointOf(ctx context.Context) int {
	i, _ := ctx.Value(endpointKey{}).(int)
	return i
}

// dialCancel dials for a cancel request to the server of a's connection. Where the cluster has
// peers and the server does not answer, its endpoint rests and the connection is closed, so that its
// place in the pool is free.
func (g *gate) dialCancel(ctx context.Context, a *attempt, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if len(g.c.endpoints) == 1 {
		return dial(ctx)
	}
	if !a.ready.Load() { // pgx sends one for each connection that fails at startup
		return nil, errors.New("dsql: a connection that is not ready has nothing to cancel")
	}
	if g.c.rest.Lost(a.current, a.began) {
		_ = a.tcp.Close()
		return nil, errors.New("dsql: no cancel request is sent to an endpoint that rests")
	}
	began := time.Now()
	return failover.DialCancel(withEndpoint(ctx, a.current), dial, func(err error) {
		g.c.failed(context.WithoutCancel(ctx), a.current, began, true, fmt.Errorf("a cancel request was not answered: %w", err))
		_ = a.tcp.Close()
	})
}

// seals returns the seal with the endpoints in the order in which they are tried.
func (g *gate) seals(order []int) seal.Seal {
	s := g.c.seal
	s.Host, s.Peers = g.c.endpoints[order[0]].Host, nil
	for _, i := range order[1:] {
		s.Peers = append(s.Peers, g.c.endpoints[i].Host)
	}
	return s
}

// arrange has cc try the endpoints in the order of a's plan.
func (g *gate) arrange(a *attempt, cc *pgconn.Config) {
	all := append([]*pgconn.FallbackConfig{{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}}, cc.Fallbacks...)
	cc.Fallbacks = nil
	for n, i := range a.plan.Order {
		f := all[i]
		f.TLSConfig = g.ownTLS(f.TLSConfig, g.c.endpoints[i].Region)
		a.tls[i] = f.TLSConfig
		if n == 0 {
			cc.Host, cc.Port, cc.TLSConfig = f.Host, f.Port, f.TLSConfig
			continue
		}
		cc.Fallbacks = append(cc.Fallbacks, f)
	}
}
