// Package fairness decides which of the transactions of this process that conflict goes next.
package fairness

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Waiters are the transactions that wait after a conflict. The zero value is ready.
//
// On a hot row, the worker that has just committed begins its next transaction at once and commits
// again: whatever slept wakes up in the middle of it. So each transaction that ends wakes the one
// of its group that began first, in time for a fair race. Only one at a time is woken, so that many
// transactions that end do not wake many. Only transactions that have conflicted wait.
type Waiters struct {
	waiting atomic.Int64 // in all groups, so that Wake can look without locking

	mu     sync.Mutex
	groups map[any]*group // those in use
}

type group struct {
	waiters []*waiter
	woken   bool // one was woken, and its attempt has not ended
}

type waiter struct {
	since time.Time
	wake  chan struct{} // closed to wake it
}

// Wait waits for delay, or less if it is woken, or until ctx ends. since is when the transaction
// began first. If it was woken, Done must follow its next attempt, also when there is an error. key
// names its group and must be comparable.
func (w *Waiters) Wait(ctx context.Context, key any, since time.Time, delay time.Duration) (woken bool, err error) {
	me := &waiter{since, make(chan struct{})}
	w.add(key, me)

	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-me.wake:
		return true, nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.groups[key].waiters, me)
	if i < 0 {
		return true, err // woken just now
	}
	w.remove(key, i)
	return false, err
}

// Len returns how many wait in a group.
func (w *Waiters) Len(key any) int {
	if w.waiting.Load() == 0 {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.groups[key]; g != nil {
		return len(g.waiters)
	}
	return 0
}

// Wake wakes the transaction of a group that began first, unless one that was woken is still
// running its attempt. It is called when a run ends, however it ends.
func (w *Waiters) Wake(key any) {
	if w.waiting.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.groups[key]
	if g == nil || g.woken || len(g.waiters) == 0 {
		return
	}
	first := 0
	for i, other := range g.waiters {
		if other.since.Before(g.waiters[first].since) {
			first = i
		}
	}
	g.woken = true
	close(g.waiters[first].wake)
	w.remove(key, first)
}

// Done says that the attempt of the transaction that was woken has ended.
func (w *Waiters) Done(key any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups[key].woken = false
	w.forget(key)
}

func (w *Waiters) add(key any, me *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.groups == nil {
		w.groups = make(map[any]*group)
	}
	if w.groups[key] == nil {
		w.groups[key] = &group{}
	}
	w.groups[key].waiters = append(w.groups[key].waiters, me)
	w.waiting.Add(1)
}

func (w *Waiters) remove(key any, i int) {
	w.groups[key].waiters = slices.Delete(w.groups[key].waiters, i, i+1)
	w.waiting.Add(-1)
	w.forget(key)
}

func (w *Waiters) forget(key any) {
	if g := w.groups[key]; len(g.waiters) == 0 && !g.woken {
		delete(w.groups, key)
	}
}
