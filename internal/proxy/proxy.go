// Package proxy speaks Aurora DSQL's side of the PostgreSQL protocol in front of a PostgreSQL
// server. It terminates TLS, routes by SNI, verifies tokens, refuses what DSQL refuses and turns
// PostgreSQL's row locks into DSQL's optimistic concurrency.
//
// A connection passes through these types, in this order:
//
//   - listener accepts it, completes TLS and routes it to a Proxy (listener.go, tls.go, route.go);
//   - Proxy authenticates it and opens a connection to PostgreSQL (connect.go, auth.go);
//   - frontend reads the client's messages (frontend.go, extended.go);
//   - session executes statements and tracks the transaction (exec.go, write.go, ddl.go);
//   - relay sends to PostgreSQL and delivers its replies (relay.go, replies.go).
package proxy

import (
	"context"
	"maps"
	"slices"
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
	Server      *postgres.Server
	Database    string                 // the cluster's database on Server
	Credentials func() aws.Credentials // a function, so that printing shows no key
	Principal   string                 // the ARN that Credentials belong to

	MaxConnections int     // 0: no limit
	ConnectRate    float64 // connections a second; 0: no limit
	ConnectBurst   int
}

// Proxy is one cluster behind the listener that all clusters of the process share. It is safe for
// concurrent use.
type Proxy struct {
	Faults Faults

	cfg      Config
	listener *listener
	quota    quota
	catalog  atomic.Int64 // version of the schema
	redoing  sync.Mutex   // held while a transaction executes its writes again
	monitor  monitor

	ctx    context.Context // done when the proxy closes; cuts its connections
	cancel context.CancelFunc
	conns  sync.WaitGroup

	sessionAge     time.Duration
	transactionAge time.Duration

	mu       sync.Mutex
	closed   bool // no connection is accepted any more
	refusal  *Refusal
	stats    Stats
	sessions map[*session]struct{}
}

// Start makes the cluster reachable at [Proxy.Address] until Close.
func Start(cfg Config) (*Proxy, error) {
	p := &Proxy{
		cfg:            cfg,
		quota:          newQuota(cfg),
		sessionAge:     maxSessionAge,
		transactionAge: maxTransactionAge,
		sessions:       make(map[*session]struct{}),
	}
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
	p.monitor.close()
	detach(p)
}

// Address returns the listener's address, host:port on loopback.
func (p *Proxy) Address() string { return p.listener.net.Addr().String() }

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
}

// CutSessions closes all sessions at once and sends nothing.
func (p *Proxy) CutSessions() {
	for _, s := range p.openSessions() {
		s.cut()
	}
}

// ExpireSessions ends all sessions as DSQL does at their maximum age: idle ones at once, the
// others after their transaction.
func (p *Proxy) ExpireSessions() {
	for _, s := range p.openSessions() {
		s.expire()
	}
}

// beginConn registers a connection unless the proxy is closed. The caller must call conns.Done.
func (p *Proxy) beginConn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns.Add(1)
	return true
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

func (p *Proxy) openSessions() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.sessions))
}
