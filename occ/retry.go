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

// serialKey names a key of [WithSerialKey].
type serialKey struct {
	db  any
	key string
}

// run is the state of one call: how far its attempts have come.
type run struct {
	policy
	db any // groups the waiters; nil: no group

	start       time.Time
	took        time.Duration // the duration of the last attempt
	attempts    int
	failures    [kinds]int     // by kind
	stale       staleStatement // the last
	serialized  bool           // it holds the serial key
	prioritized bool           // the end of another run ended its wait and lets it go first
	unsure      bool           // a statement or a COMMIT may have been applied
	late        error          // a COMMIT that the check did not find, and that may still be applied
	onLate      func()         // RunTxValue: keeps the value of late's attempt
	endedLate   bool           // the outcome of the run is that of late
}

func newRun(db any, opts []RetryOption) (*run, error) {
	r := &run{}
	return r, r.init(db, opts)
}

func (r *run) init(db any, opts []RetryOption) error {
	if v := reflect.ValueOf(db); v.Kind() == reflect.Pointer || v.IsValid() && v.Comparable() {
		r.db = db
	}
	return r.set(opts)
}

// isNil reports whether v is nil, or a nil pointer or function in an interface.
func isNil(v any) bool {
	switch v := reflect.ValueOf(v); v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Interface, reflect.Chan, reflect.Slice:
		return v.IsNil()
	}
	return false
}

// do makes attempts until one succeeds, one fails permanently, or the budget is used up.
func (r *run) do(ctx context.Context, attempt func() *failure) error {
	r.start = time.Now()
	if ctx.Err() != nil {
		return fmt.Errorf("occ: not begun: %w", contextError(ctx))
	}
	ended := false // deferred, as an attempt may panic
	defer func() {
		r.endPriority()
		r.releaseSerial(ended)
		waiters.Wake(r.db)
	}()
	if err := r.acquireSerial(ctx, false); err != nil {
		return r.gaveUp(err)
	}
	var last error
	for {
		began := time.Now()
		failed := attempt()
		r.took = time.Since(began)
		r.endPriority()
		if failed != nil && failed.kind == unknownCommit {
			failed = r.checkCommit(ctx, failed)
		}
		if failed == nil {
			ended = true
			return nil
		}
		if failed.kind == permanent && r.late != nil {
			if failed = r.checkLate(ctx, failed); failed == nil {
				ended = true
				return nil
			}
		}
		r.attempts++
		r.unsure = r.unsure || r.autocommits && (failed.kind == permanent || failed.kind == lostStatement)
		if failed.kind == permanent {
			return r.permanent(ctx, failed, last)
		}
		if failed.kind == outOfTime && last != nil {
			failed.err = fmt.Errorf("%w, after: %w", failed.err, last)
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
	if ctx.Err() != nil {
		if errors.Is(failed.err, ctx.Err()) {
			return r.gaveUp(failed.err)
		}
		return r.gaveUp(fmt.Errorf("%w, after: %w", contextError(ctx), failed.err))
	}
	left := r.left()
	if !ok || left <= 0 || r.attempts == r.maxAttempts {
		return r.gaveUp(failed.err)
	}
	delay = min(delay, left)
	if r.queues(failed.kind) {
		delay = 0 // the length of the queue is unknown
	}
	if r.onRetry != nil {
		r.onRetry(RetryEvent{Attempt: r.attempts, Delay: delay, Err: failed.err})
	}
	if err := r.sleep(ctx, failed.kind, delay); err != nil {
		return r.gaveUp(fmt.Errorf("%w, after: %w", err, failed.err))
	}
	return nil
}

// left returns what is left of the time of [WithMaxElapsed].
func (r *run) left() time.Duration { return r.maxElapsed - time.Since(r.start) }

// queues reports whether the run waits for the serial key after a failure, in place of a delay.
func (r *run) queues(k kind) bool {
	return k == dataConflict && r.serialKey != "" && !r.serialized
}

// sleep waits for the next attempt. After a data conflict it waits for the serial key if the run
// does not hold it, otherwise for delay; without a key, the end of another run on the same database
// may end that wait.
func (r *run) sleep(ctx context.Context, k kind, delay time.Duration) (err error) {
	switch {
	case r.queues(k):
		return r.acquireSerial(ctx, true)
	case k == dataConflict && r.serialized:
		serial.Conflict(r.serialName())
	case k == dataConflict && r.db != nil && delay > 0:
		r.prioritized, err = waiters.Wait(ctx, r.db, r.start, delay)
		if err != nil {
			err = contextError(ctx)
		}
		return err
	}
	if delay == 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// acquireSerial waits for the serial key if it is limited, as it is after a conflict.
func (r *run) acquireSerial(ctx context.Context, conflict bool) (err error) {
	if r.serialKey == "" {
		return nil
	}
	r.serialized, err = serial.Acquire(ctx, r.serialName(), conflict, r.left())
	if err != nil && ctx.Err() != nil {
		err = contextError(ctx)
	}
	return err
}

func (r *run) releaseSerial(committed bool) {
	if r.serialized {
		r.serialized = false
		serial.Release(r.serialName(), committed)
	}
}

func (r *run) serialName() serialKey { return serialKey{r.db, r.serialKey} }

// endPriority ends the priority that the end of another run gave to this attempt.
func (r *run) endPriority() {
	if r.prioritized {
		r.prioritized = false
		waiters.Done(r.db)
	}
}

func (r *run) gaveUp(err error) error {
	return &RetryError{Attempts: r.attempts, Elapsed: time.Since(r.start), Err: err, MaybeApplied: r.unsure}
}

// permanent is the error of an attempt that is not retried. If the context ended it, the conflict
// before is reported too.
func (r *run) permanent(ctx context.Context, failed *failure, last error) error {
	err := failed.err
	if last == nil || ctx.Err() == nil || isSettled(err) || !errors.Is(err, ctx.Err()) {
		return err
	}
	return r.gaveUp(fmt.Errorf("%w, after: %w", err, last))
}

// checkCommit asks the application what became of a COMMIT that was not answered. If it was not
// applied, the transaction is run again.
func (r *run) checkCommit(ctx context.Context, failed *failure) *failure {
	if r.commitCheck == nil || ctx.Err() != nil || r.left() <= 0 {
		return &failure{permanent, failed.err}
	}
	applied, err := r.askCheck(ctx)
	switch {
	case err != nil:
		return &failure{permanent, errors.Join(failed.err, fmt.Errorf("occ: the check of the commit failed: %w", err))}
	case applied:
		return nil
	}
	r.unsure, r.late = true, failed.err
	if r.onLate != nil {
		r.onLate()
	}
	var unknown *CommitUnknownError
	if errors.As(failed.err, &unknown) {
		failed.err = unknown.Err
	}
	return &failure{unseenCommit, fmt.Errorf("occ: the connection was lost at COMMIT, and the check says that nothing was applied: %w", failed.err)}
}

// checkLate asks again when a transaction fails permanently that was run after a COMMIT which the
// check had not found: if that COMMIT has been applied since, its unique key is the usual cause.
func (r *run) checkLate(ctx context.Context, failed *failure) *failure {
	if errors.As(failed.err, new(*CommitUnknownError)) || errors.As(failed.err, new(*endedError)) {
		return failed
	}
	if ctx.Err() != nil || r.left() <= 0 { // too late to ask
		r.endedLate = true
		return &failure{permanent, errors.Join(failed.err, r.late)}
	}
	applied, err := r.askCheck(ctx)
	r.endedLate = err != nil || applied
	switch {
	case err != nil:
		return &failure{permanent, errors.Join(failed.err, r.late, fmt.Errorf("occ: the check of the commit failed: %w", err))}
	case applied:
		return nil
	}
	return failed
}

func (r *run) askCheck(ctx context.Context) (applied bool, err error) {
	err = Retry(ctx, func(ctx context.Context) (err error) {
		applied, err = r.commitCheck(ctx)
		return err
	}, WithMaxElapsed(r.left()), WithIdempotent())
	return applied, err
}
