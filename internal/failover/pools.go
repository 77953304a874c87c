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

// Add has Sweep close spent connections of pool, which must be of a configuration that Retire has
// changed.
func (p *Pools) Add(pool *pgxpool.Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pools = slices.DeleteFunc(p.pools, func(known weak.Pointer[pgxpool.Pool]) bool { return known.Value() == nil })
	p.pools = append(p.pools, weak.Make(pool))
}

// Sweep closes the spent ones of the idle connections, by acquiring all.
func (p *Pools) Sweep() {
	for _, pool := range p.all() {
		for _, conn := range pool.AcquireAllIdle(context.Background()) {
			conn.Release()
		}
	}
}

func (p *Pools) all() (pools []*pgxpool.Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.pools {
		if pool := known.Value(); pool != nil {
			pools = append(pools, pool)
		}
	}
	return pools
}

// sweeps is how often SweepFor sweeps: often enough that connections are closed spread out, and not
// so often that acquiring the idle ones disturbs a pool.
const sweeps = 20

// SweepFor calls Sweep in the background, spread over d. Without it, connections that stay idle
// would not be retired. If no pool has been added, SweepFor does nothing.
func (p *Pools) SweepFor(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pools) == 0 {
		return
	}
	p.until = time.Now().Add(d)
	if p.timer == nil {
		p.sweepAfter(d / sweeps)
	}
}

// sweepAfter sweeps every d until p.until. p.mu must be held.
func (p *Pools) sweepAfter(d time.Duration) {
	p.timer = time.AfterFunc(d, func() {
		p.Sweep()
		p.mu.Lock()
		defer p.mu.Unlock()
		if time.Now().After(p.until) {
			p.timer = nil
			return
		}
		p.sweepAfter(d)
	})
}
