// Package turn decides which of the transactions that meet conflicts in this
// process goes next.
package fairness

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// wakeEvery is how many commits it takes to wake a loser. Each that is woken
// costs about one attempt of somebody else: fewer would be unfair, more would
// waste work. Measured: see docs/performance.md.
const wakeEvery = 4

// Waiters are the transactions that wait after a conflict. The zero value is
// ready.
//
// On a hot row, who has just committed begins again at once and wins again:
// whoever slept wakes up in the middle of the winner's next transaction. So
// every few commits on a database, the one there that began first is woken, and
// who committed lets it go first. One at a time is woken like this, so that
// commits elsewhere in the database do not turn waiting into hammering.
type Waiters struct {
	waiting atomic.Int64 // in all queues, so that a commit can look without locking

	mu     sync.Mutex
	queues map[any]*queue // by database; those in use
}

type queue struct {
	waiters []*waiter
	commits int           // since one was woken
	turn    chan struct{} // closed when the turn of the one that was woken ends; nil: nobody's
}

type waiter struct {
	since time.Time
	wake  chan struct{} // closed to wake it
}

// Wait waits for delay, or less if a commit on db wakes it, or until ctx ends.
// since is when the transaction began first. If it was woken, Done must follow the
// next attempt, also when there is an error. db must be comparable.
func (l *Waiters) Wait(ctx context.Context, db any, since time.Time, delay time.Duration) (woken bool, err error) {
	me := &waiter{since, make(chan struct{})}
	l.add(db, me)

	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-me.wake:
		return true, nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.queues[db].waiters, me)
	if i < 0 {
		return true, err // woken just now
	}
	l.remove(db, i)
	return false, err
}

// Len returns how many wait on db.
func (l *Waiters) Len(db any) int {
	if l.waiting.Load() == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.queues[db]; q != nil {
		return len(q.waiters)
	}
	return 0
}

// Committed may wake the transaction on db that began first, and then returns
// when its turn has ended, or after atMost, or when ctx ends.
func (l *Waiters) Committed(ctx context.Context, db any, atMost time.Duration) {
	if l.waiting.Load() == 0 {
		return
	}
	turn := l.wakeFirst(db)
	if turn == nil {
		return
	}
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-turn:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (l *Waiters) wakeFirst(db any) (turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[db]
	if q == nil || q.turn != nil || len(q.waiters) == 0 {
		return nil
	}
	if q.commits++; q.commits < wakeEvery {
		return nil
	}
	q.commits = 0
	first := 0
	for i, other := range q.waiters {
		if other.since.Before(q.waiters[first].since) {
			first = i
		}
	}
	q.turn = make(chan struct{})
	close(q.waiters[first].wake)
	l.remove(db, first)
	return q.turn
}

// Done ends the turn of the transaction on db that was woken.
func (l *Waiters) Done(db any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.queues[db].turn)
	l.queues[db].turn = nil
	l.forget(db)
}

func (l *Waiters) add(db any, me *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queues == nil {
		l.queues = make(map[any]*queue)
	}
	if l.queues[db] == nil {
		l.queues[db] = &queue{}
	}
	l.queues[db].waiters = append(l.queues[db].waiters, me)
	l.waiting.Add(1)
}

func (l *Waiters) remove(db any, i int) {
	l.queues[db].waiters = slices.Delete(l.queues[db].waiters, i, i+1)
	l.waiting.Add(-1)
	l.forget(db)
}

func (l *Waiters) forget(db any) {
	if q := l.queues[db]; len(q.waiters) == 0 && q.turn == nil {
		delete(l.queues, db)
	}
}
