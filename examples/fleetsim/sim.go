package main

import "math/rand/v2"

const (
	processes = 500
	perPool   = 20
	quotaRate = 100  // new connections per second of a cluster's endpoint
	quota     = 1000 // their burst
	outage    = 10 * minute
	retired   = 5 * minute // within which connections return to an endpoint that is back
)

// limiter limits the connects of one process, as dsql.WithConnectRate does.
type limiter struct {
	name        string
	rate, burst float64 // 0: no limit
}

// scenario is a fleet and what happens to it.
type scenario struct {
	name         string
	life, jitter int // of a connection, in seconds
	limiter      limiter
	wave         int  // processes that start every 10 seconds; 0: all at once
	loss         int  // when one of two Regions, which half of the processes prefer, is lost; 0: never
	failover     bool // whether its connections go to the other
}

// result is what a simulation saw after its event.
type result struct {
	settled   int   // seconds until all connections were open
	refused   int   // connects until then
	peakLater int   // most connects in a second from then on
	opened    []int // connections in each second
}

// bucket is a token bucket.
type bucket struct{ tokens, rate, burst float64 }

func (b *bucket) tick() { b.tokens = min(b.tokens+b.rate, b.burst) }

func (b *bucket) take() bool {
	if b.burst == 0 {
		return true
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// conn is one place in a pool.
type conn struct {
	process, home int
	at            int // the Region that it is connected to; -1: none
	next          int // when it connects, or connects again
}

// fleet is the state of a simulation. The endpoints' quotas and the processes' limiters are
// buckets.
type fleet struct {
	scenario
	random   *rand.Rand
	conns    []conn
	due      [][]int // the connections that are due in each second
	quotas   [2]bucket
	limiters []bucket
}

func newFleet(s scenario) *fleet {
	f := &fleet{scenario: s, random: rand.New(rand.NewPCG(1, 2)), due: make([][]int, length+1)}
	for i := range f.quotas {
		f.quotas[i] = bucket{quota, quotaRate, quota}
	}
	for p := range processes {
		burst := s.limiter.burst
		if burst > 0 {
			burst = max(1, burst-max(1, burst/10)) // a tenth is kept back
		}
		f.limiters = append(f.limiters, bucket{burst, s.limiter.rate, burst})
		start, home := 0, 0
		switch {
		case s.loss > 0: // long in operation: connections of all ages
			home = p % 2
		case s.wave > 0:
			start = p / s.wave * 10
		}
		for range perPool {
			c := conn{process: p, home: home, at: -1}
			if s.loss > 0 {
				c.at, start = home, f.random.IntN(s.life)
			}
			f.conns = append(f.conns, c)
			f.schedule(len(f.conns)-1, start)
		}
	}
	return f
}

// schedule has connection i connect at a time, in place of any other.
func (f *fleet) schedule(i, at int) {
	f.conns[i].next = at
	if at < length {
		f.due[at] = append(f.due[at], i)
	}
}

func (f *fleet) isDown(region, now int) bool {
	return f.loss > 0 && region == 0 && now >= f.loss && now < f.loss+outage
}

// simulate runs the scenario second by second.
func (s scenario) simulate() result {
	f := newFleet(s)
	r := result{settled: -1, opened: make([]int, length)}
	for now := range length {
		for i := range f.quotas {
			f.quotas[i].tick()
		}
		for i := range f.limiters {
			f.limiters[i].tick()
		}
		f.change(now)
		asked, refused := f.connect(now, &r)
		switch {
		case now < s.loss:
		case r.settled < 0:
			r.refused += refused
			if f.isConnected() {
				r.settled = now - s.loss
			}
		default:
			r.peakLater = max(r.peakLater, asked)
		}
	}
	return r
}

// change takes connections away at the loss of a Region, and brings those back that prefer it.
func (f *fleet) change(now int) {
	if f.loss == 0 || now != f.loss && now != f.loss+outage {
		return
	}
	for i := range f.conns {
		c := &f.conns[i]
		switch {
		case now == f.loss && c.at == 0:
			c.at = -1
			f.schedule(i, now)
		case now != f.loss && c.home == 0 && c.at == 1:
			f.schedule(i, now+f.random.IntN(retired))
		}
	}
}

// connect lets the connections that are due connect, in random order. One that its limiter holds
// back waits; one that is refused, or finds no endpoint, tries again in 1 or 2 seconds.
func (f *fleet) connect(now int, r *result) (asked, refused int) {
	due := f.due[now]
	f.random.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for _, i := range due {
		c := &f.conns[i]
		if c.next != now {
			continue
		}
		c.at = -1
		region := c.home
		if f.isDown(region, now) && f.failover {
			region = 1
		}
		switch {
		case !f.limiters[c.process].take():
			f.schedule(i, now+1)
			continue
		case f.isDown(region, now):
			f.schedule(i, now+1+f.random.IntN(2))
			continue
		}
		asked++
		if !f.quotas[region].take() {
			refused++
			f.schedule(i, now+1+f.random.IntN(2))
			continue
		}
		c.at = region
		r.opened[now]++
		f.schedule(i, now+f.life+f.random.IntN(f.jitter+1))
	}
	return asked, refused
}

func (f *fleet) isConnected() bool {
	for i := range f.conns {
		if f.conns[i].at < 0 {
			return false
		}
	}
	return true
}
