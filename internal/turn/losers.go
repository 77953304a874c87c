// Package turn decides which of the transactions that meet conflicts in this
// process goes next.
package turn

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

// Losers are the transactions that wait after a conflict. The zero value is
// ready.
//
// On a hot row, who has just committed begins again at once and wins again:
// whoever slept wakes up in the middle of the winner's next transaction. So
// every few commits on a database, the one there that began first is woken, and
// who committed lets it go first. One at a time is woken like this, so that
// commits elsewhere in the database do not turn waiting into hammering.
type Losers struct {
	waiting atomic.Int64 // in all queues, so that a commit can look without locking

	mu     sync.Mutex
	queues map[any]*queue // by database; those in use
}

type queue struct {
	losers  []*loser
	commits int           // since one was woken
	turn    chan struct{} // closed when the turn of the one that was woken ends; nil: nobody's
}

type loser struct {
	since time.Time
	wake  chan struct{} // closed to wake it
}

// Wait waits for delay, or less if a commit on db wakes it, or until ctx ends.
// since is when the transaction began first. If it was woken, End must follow the
// next attempt, also when there is an error. db must be comparable.
func (l *Losers) Wait(ctx context.Context, db any, since time.Time, delay time.Duration) (woken bool, err error) {
	me := &loser{since, make(chan struct{})}
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
	i := slices.Index(l.queues[db].losers, me)
	if i < 0 {
		return true, err // woken just now
	}
	l.remove(db, i)
	return false, err
}

// Waiting is how many wait on db.
func (l *Losers) Waiting(db any) int {
	if l.waiting.Load() == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.queues[db]; q != nil {
		return len(q.losers)
	}
	return 0
}

// Committed may wake the transaction on db that began first, and then returns
// when its turn has ended, or after atMost, or when ctx ends.
func (l *Losers) Committed(ctx context.Context, db any, atMost time.Duration) {
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

func (l *Losers) wakeFirst(db any) (turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[db]
	if q == nil || q.turn != nil || len(q.losers) == 0 {
		return nil
	}
	if q.commits++; q.commits < wakeEvery {
		return nil
	}
	q.commits = 0
	first := 0
	for i, other := range q.losers {
		if other.since.Before(q.losers[first].since) {
			first = i
		}
	}
	q.turn = make(chan struct{})
	close(q.losers[first].wake)
	l.remove(db, first)
	return q.turn
}

// End ends the turn of the transaction on db that was woken.
func (l *Losers) End(db any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.queues[db].turn)
	l.queues[db].turn = nil
	l.forget(db)
}

func (l *Losers) add(db any, me *loser) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queues == nil {
		l.queues = make(map[any]*queue)
	}
	if l.queues[db] == nil {
		l.queues[db] = &queue{}
	}
	l.queues[db].losers = append(l.queues[db].losers, me)
	l.waiting.Add(1)
}

func (l *Losers) remove(db any, i int) {
	l.queues[db].losers = slices.Delete(l.queues[db].losers, i, i+1)
	l.waiting.Add(-1)
	l.forget(db)
}

func (l *Losers) forget(db any) {
	if q := l.queues[db]; len(q.losers) == 0 && q.turn == nil {
		delete(l.queues, db)
	}
}
