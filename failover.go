package dsql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/failover"
	"github.com/go-dsql/dsql/internal/seal"
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

// resolvePeers sets the endpoints: the cluster's own and the peers, in order of preference.
func (c *Connector) resolvePeers(own endpoint.Endpoint, cfg Config) error {
	c.endpoints = []endpoint.Endpoint{own}
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
		endpoint.NearestFirst(c.endpoints, os.Getenv("AWS_REGION"))
	}
	c.rest = failover.New(len(c.endpoints))
	c.watchdogs = make([]failover.Watchdog, len(c.endpoints))
	return nil
}

func parsePeer(p Peer) (endpoint.Endpoint, error) { return endpoint.ParsePeer(p.Endpoint, p.Region) }

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

// move makes endpoint i the current one, after the failure of the one before. The token of the one
// before is removed.
func (g *gate) move(ctx context.Context, a *failover.Attempt, i int) error {
	a.Config.Password = ""
	if a.Current >= 0 {
		g.c.judge(ctx, a)
	}
	if a.Settled != nil {
		return explain.ErrNotTried
	}
	a.Move(i)
	return nil
}

// watch has conn, to endpoint i, closed if the endpoint falls silent. dial opens another connection
// to it.
func (g *gate) watch(a *failover.Attempt, i int, conn net.Conn, dial func(context.Context) (net.Conn, error)) net.Conn {
	return g.c.watchdogs[i].Watch(conn, failover.Probe{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return dial(context.WithValue(ctx, attemptKey{}, a))
		},
		TLS: a.TLS[i],
		Silent: func(began time.Time, err error) {
			g.c.failed(context.Background(), i, began, true, err)
		},
	})
}

// judge has the current endpoint rest if the failure is its own, or settles the attempt.
func (c *Connector) judge(ctx context.Context, a *failover.Attempt) {
	if rests, lost := a.Judge(ctx); rests {
		c.failed(ctx, a.Current, a.Began, lost, a.Err)
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
	c.log(ctx, c.endpoints[i].Host, slog.LevelWarn, "dsql: endpoint rests", slog.Time("until", c.rest.States()[i].Until), slog.String("error", cause))
	if lost {
		go c.pools.Sweep()
	}
}

// connectedTo notes the endpoint of a new connection.
func (c *Connector) connectedTo(ctx context.Context, a *failover.Attempt, conn *pgx.Conn) {
	a.Done(conn)
	if c.rest.Succeeded(a.Current, a.Began) {
		c.log(ctx, c.endpoints[a.Current].Host, slog.LevelInfo, "dsql: endpoint is back")
		c.pools.SweepFor(c.rest.Retirement)
	}
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
func (g *gate) dialCancel(ctx context.Context, a *failover.Attempt, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if len(g.c.endpoints) == 1 {
		return dial(ctx)
	}
	if !a.IsReady() { // pgx sends one for each connection that fails at startup
		return nil, errors.New("dsql: a connection that is not ready has nothing to cancel")
	}
	if g.c.rest.Lost(a.Current, a.Began) {
		_ = a.TCP.Close()
		return nil, errors.New("dsql: no cancel request is sent to an endpoint that rests")
	}
	began := time.Now()
	return failover.DialCancel(withEndpoint(ctx, a.Current), dial, func(err error) {
		g.c.failed(context.WithoutCancel(ctx), a.Current, began, true, fmt.Errorf("a cancel request was not answered: %w", err))
		_ = a.TCP.Close()
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
