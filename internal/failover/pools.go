package failover

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pools closes connections that are spent: when they are to be used again, and in the pools that it
// knows also while they are idle. It keeps no pool in memory. The zero value is ready.
type Pools struct {
	mu    sync.Mutex
	pools []weak.Pointer[pgxpool.Pool]
	timer *time.Timer // of the next sweep; nil: none is due
	until time.Time   // when the last is
}

// place says which endpoint a connection is to, and since when.
type place struct {
	endpoint int
	opened   time.Time
	part     float64 // of the time in which connections are retired
}

// placeKey is the key of a connection's place in its custom data.
const placeKey = "dsql.place"

// opened notes that conn, opened then, is to endpoint i.
func opened(conn *pgx.Conn, i int, at time.Time) {
	conn.PgConn().CustomData()[placeKey] = place{i, at, rand.Float64()}
}

// IsSpent reports whether conn is to be closed rather than used again.
func (s *Set) IsSpent(conn *pgx.Conn) bool {
	p, ok := conn.PgConn().CustomData()[placeKey].(place)
	return ok && s.Spent(p.endpoint, p.opened, p.part)
}

// Retire adds to p's hooks that spent connections are closed before they are used again.
func (s *Set) Retire(p *pgxpool.Config) {
	ping := p.ShouldPing
	p.ShouldPing = func(ctx context.Context, params pgxpool.ShouldPingParams) bool {
		switch {
		case s.IsSpent(params.Conn): // it might not answer
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
		case s.IsSpent(conn):
			return false, nil
		case prepare != nil:
			return prepare(ctx, conn)
		case acquire != nil:
			return acquire(ctx, conn), nil
		}
		return true, nil
	}
}

// Add has the idle connections of a pool of Retire's configuration closed by Sweep.
func (l *Pools) Add(pool *pgxpool.Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pools = slices.DeleteFunc(l.pools, func(p weak.Pointer[pgxpool.Pool]) bool { return p.Value() == nil })
	l.pools = append(l.pools, weak.Make(pool))
}

// Sweep closes the spent ones of the idle connections.
func (l *Pools) Sweep() {
	for _, pool := range l.all() {
		for _, conn := range pool.AcquireAllIdle(context.Background()) {
			conn.Release()
		}
	}
}

func (l *Pools) all() (pools []*pgxpool.Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pools {
		if pool := p.Value(); pool != nil {
			pools = append(pools, pool)
		}
	}
	return pools
}

// SweepFor sweeps now and then for a time: connections that a pool keeps idle would not be retired.
func (l *Pools) SweepFor(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pools) == 0 {
		return
	}
	l.until = time.Now().Add(d)
	if l.timer == nil {
		l.sweepAfter(d / 20)
	}
}

// sweepAfter is called with the lock.
func (l *Pools) sweepAfter(d time.Duration) {
	l.timer = time.AfterFunc(d, func() {
		l.Sweep()
		l.mu.Lock()
		defer l.mu.Unlock()
		if time.Now().After(l.until) {
			l.timer = nil
			return
		}
		l.sweepAfter(d)
	})
}
