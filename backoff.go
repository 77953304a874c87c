package dsql

import (
	"math/rand/v2"
	"time"
)

// backoff bounds the waits of one kind of failure: base at first, four times as
// much after each, never more than max.
type backoff struct{ base, max time.Duration }

// Measured: see docs/performance.md.
var conflictWait = backoff{10 * time.Millisecond, 500 * time.Millisecond}

// The quota is 100 new connections a second for a whole cluster.
var (
	connectWait = backoff{50 * time.Millisecond, 2 * time.Second}
	limitWait   = backoff{500 * time.Millisecond, 5 * time.Second}
)

const (
	backoffGrowth = 4

	// crowd is how many attempts' time each transaction that waits adds to the
	// bound: about what it takes until all have had their turn.
	crowd = 8
)

const (
	maxStalePlans = 32 // that one run heals, each at once
	maxUnseen     = 2  // as it may not have been a conflict
)

// bound is the longest wait after the n-th failure; the first is 1.
func (b backoff) bound(n int) time.Duration {
	bound := min(b.base, b.max)
	for range n - 1 {
		if bound > b.max/backoffGrowth {
			return b.max
		}
		bound *= backoffGrowth
	}
	return bound
}

// wait is random between 0 and the bound, so that those who failed together do
// not come back together.
func (b backoff) wait(n int) time.Duration {
	return rand.N(b.bound(n) + 1)
}

// delay is the wait after a failure, or false if there is to be no other
// attempt.
func (r *retrier) delay(f failure) (time.Duration, bool) {
	n := r.failures[f]
	switch f {
	case stalePlan:
		return 0, n <= maxStalePlans
	case unseen:
		return r.conflictWait.wait(n), n <= maxUnseen
	case expiredSignature:
		return 0, n == 1
	case noConnection:
		return connectWait.wait(n), true
	case connectLimit:
		return limitWait.wait(n), true
	case schemaConflict:
		if n == 1 {
			return 0, true // the session has refreshed its catalog
		}
		return r.conflictWait.wait(n - 1), true
	}
	return r.conflictDelay(n), true
}

func (r *retrier) conflictDelay(n int) time.Duration {
	bound := r.conflictWait.bound(n)
	if r.db != nil {
		took := min(r.took, r.conflictWait.max)
		bound = max(bound, crowd*took*time.Duration(losers.Waiting(r.db)))
	}
	return rand.N(min(bound, r.conflictWait.max) + 1)
}
