package occ

import (
	"math/rand/v2"
	"time"
)

// backoff bounds the waits after one kind of failure: base at first, four times as much after each,
// never more than max.
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

	// crowd widens the bound while others wait: with w transactions waiting, the bound is at least
	// crowd × w × the duration of the last attempt, up to the backoff's max. The mean wait is half
	// of that, so together they begin about one attempt in the time that crowd / 2 attempts take.
	crowd = 8
)

const (
	maxStalePlans  = 32 // per run, each retried at once
	maxUnseenError = 2  // as it may not have been a conflict
)

// bound returns the longest wait after the n-th failure; the first is 1.
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

// wait returns a random duration between 0 and the bound, so that attempts that failed together are
// not retried together.
func (b backoff) wait(n int) time.Duration {
	return rand.N(b.bound(n) + 1)
}

// delay returns the wait after a failure, or false if it must not be retried.
func (r *run) delay(k kind) (time.Duration, bool) {
	n := r.failures[k]
	switch k {
	case stalePlan:
		return 0, n <= maxStalePlans
	case unseenError:
		return r.conflictWait.wait(n), n <= maxUnseenError
	case expiredSignature:
		return 0, n == 1
	case outOfTime:
		return 0, false
	case noConnection, lostStatement, unseenCommit:
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

// conflictDelay is longer in a crowd, but not the first time: one conflict does not make a crowd.
func (r *run) conflictDelay(n int) time.Duration {
	bound := r.conflictWait.bound(n)
	if r.db != nil && n > 1 {
		took := min(r.took, r.conflictWait.max)
		bound = max(bound, crowd*took*time.Duration(waiters.Len(r.db)))
	}
	return rand.N(min(bound, r.conflictWait.max) + 1)
}
