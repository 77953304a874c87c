// Package failover keeps the state of a cluster's endpoints: which one rests after a failure, which
// one a connection tries next, and which connections are to be closed.
package failover

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// firstRest is how long an endpoint rests after its first failure. It doubles with each failed
	// try, up to maxRest, less up to a quarter at random.
	firstRest = time.Second
	maxRest   = 60 * time.Second

	// Retirement is the time in which connections to a peer are closed, spread out, once an
	// endpoint before it is back.
	Retirement = 5 * time.Minute
)

// Set is the endpoints of one cluster, by their index in order of preference. It is safe for
// concurrent use. A single endpoint never rests.
type Set struct {
	Retirement time.Duration // of New; tests shorten it

	mu        sync.Mutex
	endpoints []endpoint
}

type endpoint struct {
	rest     time.Duration // 0: the last try succeeded, or there was none
	until    time.Time     // the end of the rest
	probing  bool          // one connection tries it although others do not
	failedAt time.Time     // the start of the rest, whether or not it is over
	lostAt   time.Time     // as failedAt, for failures that connections opened before do not survive
	backAt   time.Time
	cause    string
}

// State is an endpoint's state at one moment.
type State struct {
	Resting bool
	Until   time.Time // the end of the rest
	Cause   string    // of the last failure; "" if a connection succeeded since
}

// New returns a set of n endpoints, none of which rests.
func New(n int) *Set { return &Set{Retirement: Retirement, endpoints: make([]endpoint, n)} }

// Plan is the order in which one connection tries the endpoints. It must be ended with Done.
type Plan struct {
	Order  []int
	set    *Set
	probes []int
}

// Plan returns the endpoints that do not rest, in order of preference, or if all rest, all of them,
// the earliest end of a rest first. An endpoint whose rest is over is tried again. If it comes
// before all that do not rest, this plan is the only one with it until Done.
func (s *Set) Plan() *Plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	p := &Plan{set: s}
	healthy := false
	for i := range s.endpoints {
		e := &s.endpoints[i]
		switch {
		case e.rest == 0:
			healthy = true
			p.Order = append(p.Order, i)
		case e.probing || now.Before(e.until): // another plan tries it, or it rests
		default:
			if !healthy { // it comes before all that have not failed
				e.probing = true
				p.probes = append(p.probes, i)
			}
			p.Order = append(p.Order, i)
		}
	}
	if len(p.Order) > 0 {
		return p
	}
	for i := range s.endpoints {
		p.Order = append(p.Order, i)
	}
	slices.SortStableFunc(p.Order, func(a, b int) int { return s.endpoints[a].until.Compare(s.endpoints[b].until) })
	return p
}

// Done ends the plan: other connections may try the endpoints.
func (p *Plan) Done() {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	for _, i := range p.probes {
		p.set.endpoints[i].probing = false
	}
}

// Failed has endpoint i rest after a try that began at began, and reports whether it did not
// before. A try that began before the rest says nothing new. lost says that open connections are
// lost too.
func (s *Set) Failed(i int, began time.Time, lost bool, cause string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.endpoints[i]
	if len(s.endpoints) == 1 || began.Before(e.failedAt) {
		return false
	}
	wasUp := e.rest == 0
	e.rest = min(max(firstRest, 2*e.rest), maxRest)
	e.failedAt = time.Now()
	e.until = e.failedAt.Add(e.rest - rand.N(e.rest/4))
	e.cause = cause
	if lost {
		e.lostAt = e.failedAt
	}
	return wasUp
}

// Succeeded ends the rest of endpoint i after a try that began at began, and reports whether it
// rested.
func (s *Set) Succeeded(i int, began time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.endpoints[i]
	if e.rest == 0 || began.Before(e.failedAt) {
		return false
	}
	e.rest, e.cause, e.backAt = 0, "", time.Now()
	return true
}

// Spent reports whether a connection to endpoint i is to be closed: it was opened before the
// endpoint was lost, or an endpoint before i has been back for part of the time of retirement. part
// is the connection's own, from 0 to 1.
func (s *Set) Spent(i int, opened time.Time, part float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if opened.Before(s.endpoints[i].lostAt) {
		return true
	}
	now := time.Now()
	for _, e := range s.endpoints[:i] {
		since := opened
		if e.backAt.After(since) {
			since = e.backAt
		}
		if e.rest == 0 && now.Sub(since) >= time.Duration(part*float64(s.Retirement)) {
			return true
		}
	}
	return false
}

// States returns the state of each endpoint.
func (s *Set) States() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]State, len(s.endpoints))
	for i, e := range s.endpoints {
		if e.rest > 0 {
			states[i] = State{Resting: e.probing || time.Now().Before(e.until), Until: e.until, Cause: e.cause}
		}
	}
	return states
}

// Lost reports whether endpoint i rests and a connection opened before is lost.
func (s *Set) Lost(i int, opened time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.endpoints[i]
	return e.rest > 0 && opened.Before(e.lostAt)
}
