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

// Losers are the transactions that wait after a conflict. The zero value is
// ready.
//
// On a hot row, who has just committed begins again at once and wins again:
// whoever slept wakes up in the middle of the winner's next transaction. So each
// commit on a database ends the wait of the transaction there that began first.
// It then begins together with the winner's next one, and has an even chance.
// Only one at a time is woken like this, so that commits elsewhere in the
// database do not turn waiting into hammering. Nobody waits longer than without.
type Losers struct {
	waiting atomic.Int64 // in all queues, so that a commit can look without locking

	mu     sync.Mutex
	queues map[any]*queue // by database; those in use
}

type queue struct {
	losers []*loser
	woken  bool // one was woken whose turn has not ended
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

// Committed wakes the transaction on db that began first.
func (l *Losers) Committed(db any) {
	if l.waiting.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[db]
	if q == nil || q.woken || len(q.losers) == 0 {
		return
	}
	first := 0
	for i, other := range q.losers {
		if other.since.Before(q.losers[first].since) {
			first = i
		}
	}
	q.woken = true
	close(q.losers[first].wake)
	l.remove(db, first)
}

// End lets the next commit on db wake another.
func (l *Losers) End(db any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queues[db].woken = false
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
	if q := l.queues[db]; len(q.losers) == 0 && !q.woken {
		delete(l.queues, db)
	}
}
