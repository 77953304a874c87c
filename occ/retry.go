package occ

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/go-dsql/dsql/internal/fairness"
)

// Which transaction goes next in this process.
var (
	waiters fairness.Waiters
	serial  fairness.Serial
)

// run is the state of one call: how far its attempts have come.
type run struct {
	policy
	db any // groups the waiters; nil: no group

	start       time.Time
	took        time.Duration // the duration of the last attempt
	attempts    int
	failures    [kinds]int // by kind
	serialized  bool       // it holds the serial key
	prioritized bool       // a commit ended its wait and lets it go first
}

func newRun(db any, opts []RetryOption) (*run, error) {
	p, err := newPolicy(opts)
	if err != nil {
		return nil, err
	}
	r := &run{policy: p}
	if reflect.ValueOf(db).Comparable() {
		r.db = db
	}
	return r, nil
}

// do makes attempts until one succeeds, one fails permanently, or the budget is used up.
func (r *run) do(ctx context.Context, attempt func() *failure) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("occ: not begun: %w", err)
	}
	r.start = time.Now()
	// Deferred, as an attempt may panic.
	defer r.releaseSerial()
	defer r.endPriority()
	if err := r.acquireSerial(ctx, false); err != nil {
		return r.gaveUp(err)
	}
	var last error
	for {
		began := time.Now()
		failed := attempt()
		r.took = time.Since(began)
		r.endPriority()
		if failed == nil {
			r.releaseSerial()
			waiters.Committed(ctx, r.db, min(r.took, r.conflictWait.max))
			return nil
		}
		r.attempts++
		if failed.kind == permanent {
			return r.permanent(ctx, failed.err, last)
		}
		last = failed.err
		r.failures[failed.kind]++
		if err := r.wait(ctx, failed); err != nil {
			return err
		}
	}
}

// wait waits for the next attempt, or gives up.
func (r *run) wait(ctx context.Context, failed *failure) error {
	delay, ok := r.delay(failed.kind)
	left := r.maxElapsed - time.Since(r.start)
	if ctx.Err() != nil {
		return r.gaveUp(fmt.Errorf("%w, after: %w", ctx.Err(), failed.err))
	}
	if !ok || left <= 0 || r.attempts == r.maxAttempts {
		return r.gaveUp(failed.err)
	}
	delay = min(delay, left)
	if r.onRetry != nil {
		r.onRetry(RetryEvent{Attempt: r.attempts, Delay: delay, Err: failed.err})
	}
	if err := r.sleep(ctx, failed.kind, delay); err != nil {
		return r.gaveUp(fmt.Errorf("%w, after: %w", err, failed.err))
	}
	return nil
}

func (r *run) sleep(ctx context.Context, k kind, delay time.Duration) (err error) {
	switch {
	case k == dataConflict && r.serialKey != "" && !r.serialized:
		return r.acquireSerial(ctx, true)
	case delay == 0:
		return nil
	case k == dataConflict && r.db != nil && !r.serialized:
		r.prioritized, err = waiters.Wait(ctx, r.db, r.start, delay)
		return err
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acquireSerial waits for the serial key if another run holds it. A key that nobody holds is taken
// only when it is hot.
func (r *run) acquireSerial(ctx context.Context, hot bool) (err error) {
	if r.serialKey != "" {
		r.serialized, err = serial.Acquire(ctx, r.serialKey, hot, r.maxElapsed-time.Since(r.start))
	}
	return err
}

func (r *run) releaseSerial() {
	if r.serialized {
		r.serialized = false
		serial.Release(r.serialKey)
	}
}

// endPriority ends the priority that a commit gave to this attempt.
func (r *run) endPriority() {
	if r.prioritized {
		r.prioritized = false
		waiters.Done(r.db)
	}
}

func (r *run) gaveUp(err error) error {
	return &RetryError{Attempts: r.attempts, Elapsed: time.Since(r.start), Err: err}
}

// permanent is the error of an attempt that is not retried. If the context ended it, the conflict
// before is reported too.
func (r *run) permanent(ctx context.Context, err, last error) error {
	var unknown *CommitUnknownError
	if last == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) || errors.As(err, &unknown) {
		return err
	}
	return r.gaveUp(fmt.Errorf("%w, after: %w", err, last))
}
