// Package proxy speaks Aurora DSQL's side of the PostgreSQL protocol in front of a PostgreSQL
// server. It terminates TLS, routes by SNI, verifies tokens, refuses what DSQL refuses and turns
// PostgreSQL's row locks into DSQL's optimistic concurrency.
//
// A connection passes through these types, in this order:
//
//   - listener accepts it, completes TLS and routes it to a Proxy (listener.go, tls.go,
//     certificate.go, startup.go, route.go);
//   - Proxy authenticates it and opens a connection to PostgreSQL (connect.go, auth.go, quota.go,
//     refusal.go), or forwards a cancel request (cancel.go);
//   - frontend reads the client's messages (frontend.go, extended.go, pipeline.go, copy.go);
//   - session executes statements and tracks the transaction (session.go, transaction.go, exec.go,
//     ddl.go, functions.go) and its conflicts with others (write.go, attempt.go, unblock.go,
//     isolate.go);
//   - relay sends to PostgreSQL and delivers its replies (relay.go, replies.go, errors.go).
//
// Proxy asks PostgreSQL about locks and tables in sessions of its own (monitor.go, tables.go),
// injects faults (faults.go, blackhole.go) and records what it has seen (log.go, stats.go). wire.go
// has the messages of the protocol.
package proxy

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/go-dsql/dsql/internal/postgres"
)

// The ages at which DSQL ends a session and a transaction:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
const (
	maxSessionAge     = 60 * time.Minute
	maxTransactionAge = 300 * time.Second
)

// Config describes the cluster that a proxy stands for.
type Config struct {
	ID          string // cluster ID, 26 characters of a-z and 0-9
	Region      string
	Listen      string // host:port; empty: a free port on loopback, shared by the clusters of the process
	Server      *postgres.Server
	Database    string                 // the cluster's database on Server
	Credentials func() aws.Credentials // a function, so that printing shows no key
	Principal   string                 // the ARN that Credentials belong to

	Authority []byte // of NewAuthority, if Listen has no other cluster; nil: the process's

	Linked *Proxy // another endpoint of the same cluster, if there is one

	MaxConnections int     // 0: no limit
	ConnectRate    float64 // connections a second; 0: no limit
	ConnectBurst   int
}

// Proxy is one endpoint of a cluster, behind the listener that all clusters of the process share. It
// is safe for concurrent use.
type Proxy struct {
	Faults Faults
	*group

	cfg      Config
	listener *listener
	quota    quota
	monitor  monitor
	tables   tables

	ctx    context.Context // done when the proxy closes; cuts its connections
	cancel context.CancelFunc
	conns  sync.WaitGroup

	sessionAge     time.Duration
	transactionAge time.Duration

	mu       sync.Mutex
	closed   bool // no connection is accepted any more
	refusal  *Refusal
	stats    Stats
	log      eventLog
	sessions map[*session]struct{}
	open     map[*tls.Conn]struct{} // connections after TLS, sessions or not
}

// group is what the endpoints of one cluster share.
type group struct {
	catalog   atomic.Int64 // version of the schema
	ddl       atomic.Int64 // transactions that execute DDL
	functions functions
	redoing   sync.Mutex    // held while a transaction executes its writes again
	copySlots chan struct{} // a semaphore: sessions that copy tables

	linked sync.Mutex
	all    []*Proxy
}

// newGroup limits table copies, which only serve transactions that will fail, to half of the
// processors.
func newGroup() *group {
	return &group{copySlots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

func (g *group) add(p *Proxy) {
	g.linked.Lock()
	defer g.linked.Unlock()
	g.all = append(g.all, p)
}

// allSessions returns the open sessions of all endpoints.
func (g *group) allSessions() (sessions []*session) {
	g.linked.Lock()
	defer g.linked.Unlock()
	for _, p := range g.all {
		sessions = append(sessions, p.openSessions()...)
	}
	return sessions
}

// IfUnused calls f and returns true if no client has connected to any endpoint of the cluster yet.
// Clients that connect during the call wait for f to return.
func (g *group) IfUnused(f func()) bool {
	g.linked.Lock()
	defer g.linked.Unlock()
	unused := true
	for _, p := range g.all {
		p.mu.Lock()
		defer p.mu.Unlock()
		unused = unused && !p.closed && p.stats.Connects == 0 && len(p.open) == 0
	}
	if unused {
		f()
	}
	return unused
}

// SetDatabase changes the cluster's database. Call it during [Proxy.IfUnused].
func (g *group) SetDatabase(name string) {
	for _, p := range g.all {
		p.closeSessions() // in the old one
		p.cfg.Database = name
	}
}

// Start makes the cluster reachable at [Proxy.Address] until Close.
func Start(cfg Config) (*Proxy, error) {
	p := &Proxy{
		group:          newGroup(),
		cfg:            cfg,
		quota:          newQuota(cfg),
		sessionAge:     maxSessionAge,
		transactionAge: maxTransactionAge,
		sessions:       make(map[*session]struct{}),
		open:           make(map[*tls.Conn]struct{}),
	}
	if cfg.Linked != nil {
		p.group = cfg.Linked.group
	}
	p.add(p)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := attach(p); err != nil {
		return nil, err
	}
	return p, nil
}

// Close cuts all connections and waits for them to end. The listener closes with the last proxy. A
// second call does nothing.
func (p *Proxy) Close() {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	p.mu.Unlock()
	if again {
		return
	}
	p.cancel()
	p.conns.Wait()
	p.closeSessions()
	detach(p)
}

// closeSessions closes the proxy's own sessions on PostgreSQL.
func (p *Proxy) closeSessions() {
	p.monitor.close()
	p.tables.close()
}

// Address returns the address to dial. It is on loopback if the listener accepts connections on all
// addresses of the machine.
func (p *Proxy) Address() string {
	address := p.listener.net.Addr().(*net.TCPAddr)
	if address.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(address.Port))
	}
	return address.String()
}

// CertPEM returns the certificate authority that signs the server's certificates.
func (p *Proxy) CertPEM() []byte { return p.listener.authority.pem() }

// Endpoint returns the cluster's public host name.
func (p *Proxy) Endpoint() string { return p.cfg.ID + ".dsql." + p.cfg.Region + ".on.aws" }

// LastRefusal returns why the last refused client was refused, and whether there was one.
func (p *Proxy) LastRefusal() (Refusal, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal == nil {
		return Refusal{}, false
	}
	return *p.refusal, true
}

func (p *Proxy) recordRefusal(refusal *Refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusal = refusal
	p.log.add(Event{User: refusal.User, Code: refusal.Code, Message: refusal.Message})
}

// Log returns what the endpoint has received and refused, oldest first.
func (p *Proxy) Log() []Event { return p.log.all() }

// SetClockOffset moves the endpoint's clock, forward if d is positive: tokens, transactions and
// sessions expire by it.
func (p *Proxy) SetClockOffset(d time.Duration) {
	p.Faults.SetClockOffset(d)
	p.checkSessionAges()
}

// Restore ends all faults and forgets those queued for COMMITs.
func (p *Proxy) Restore() {
	p.Faults.Restore()
	p.checkSessionAges()
}

// checkSessionAges expires sessions by a clock that has been moved.
func (p *Proxy) checkSessionAges() {
	now := p.Faults.now()
	for _, s := range p.openSessions() {
		if left := s.opened.Add(p.sessionAge).Sub(now); left > 0 {
			s.age.Reset(left)
		} else {
			s.expire()
		}
	}
}

// CutSessions closes all sessions at once and sends nothing.
func (p *Proxy) CutSessions() {
	for _, s := range p.openSessions() {
		s.cut()
	}
}

// Cut takes the endpoint down until Restore: it cuts all connections and resets new ones.
func (p *Proxy) Cut() {
	p.Faults.setDown()
	p.mu.Lock()
	for conn := range p.open {
		reset(conn.NetConn())
	}
	p.mu.Unlock()
	p.CutSessions()
}

// ExpireSessions ends all sessions as DSQL does at their maximum age: idle ones at once, the
// others after their transaction.
func (p *Proxy) ExpireSessions() {
	for _, s := range p.openSessions() {
		s.expire()
	}
}

// beginConn registers a connection unless the proxy is closed or down. The caller must call endConn.
func (p *Proxy) beginConn(conn *tls.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.Faults.get().down {
		return false
	}
	p.conns.Add(1)
	p.open[conn] = struct{}{}
	return true
}

func (p *Proxy) endConn(conn *tls.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
	p.conns.Done()
}

func (p *Proxy) addSession(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[s] = struct{}{}
}

func (p *Proxy) removeSession(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
}

// openSessions returns the endpoint's sessions.
func (p *Proxy) openSessions() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.sessions))
}
