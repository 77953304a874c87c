package dsql

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql/internal/turn"
)

// RetryOption changes how [RunTx], [RunTxValue], [RunSQLTx] and [Retry] retry.
type RetryOption func(*retrier) error

const (
	defaultMaxElapsed = 30 * time.Second

	// What is beyond these is a mistake.
	attemptsLimit = 1_000_000
	delayLimit    = 10 * time.Minute
	elapsedLimit  = 24 * time.Hour
)

// WithMaxAttempts gives up after n attempts. Default, and 0: no limit but the
// time's.
func WithMaxAttempts(n int) RetryOption {
	return func(r *retrier) error {
		if n < 0 || n > attemptsLimit {
			return fmt.Errorf("dsql: %d attempts: give 1 to %d, or 0 for no limit", n, attemptsLimit)
		}
		r.maxAttempts = n
		return nil
	}
}

// WithBackoff sets the waits after conflicts. Each is random, from 0 to a bound
// that begins at base, grows fourfold with each conflict and ends at max; it is
// larger where many transactions of this process wait on the same database.
// Defaults, and 0: 10 ms and 500 ms. Commits on that database end the wait of the
// one that began first. After a failure to connect the waits are longer, and not
// set by this.
func WithBackoff(base, max time.Duration) RetryOption {
	return func(r *retrier) error {
		if base < 0 || max < 0 || base > delayLimit || max > delayLimit {
			return fmt.Errorf("dsql: a backoff of %v to %v: give 0 to %v, 0 for the default", base, max, delayLimit)
		}
		if base > 0 && max > 0 && base > max {
			return fmt.Errorf("dsql: a backoff of %v to %v: the second is the longer one", base, max)
		}
		if base == 0 {
			base = conflictWait.base
			if 0 < max && max < base {
				base = max
			}
		}
		if max == 0 {
			max = conflictWait.max
			if max < base {
				max = base
			}
		}
		r.conflictWait = backoff{base, max}
		return nil
	}
}

// WithMaxElapsed gives up when a conflict comes d after the start. Default, and
// 0: 30 seconds. An attempt that is running is not cut short: for that, give ctx
// a deadline.
func WithMaxElapsed(d time.Duration) RetryOption {
	return func(r *retrier) error {
		if d < 0 || d > elapsedLimit {
			return fmt.Errorf("dsql: at most %v elapsed: give 0 to %v, 0 for the default", d, elapsedLimit)
		}
		r.maxElapsed = d
		if d == 0 {
			r.maxElapsed = defaultMaxElapsed
		}
		return nil
	}
}

// WithTxOptions begins every attempt with o. DSQL's isolation level is
// repeatable read. [Retry] has no use for it.
func WithTxOptions(o pgx.TxOptions) RetryOption {
	return func(r *retrier) error {
		r.txOptions = o
		return nil
	}
}

// WithOnRetry calls f before each wait, on the goroutine that waits.
func WithOnRetry(f func(RetryEvent)) RetryOption {
	return func(r *retrier) error {
		r.onRetry = f
		return nil
	}
}

// WithSerialKey lets the transactions of this process that have the same key run
// one after another, first come first served, from the moment one of them meets
// a conflict until none is waiting. Without conflicts it costs nothing. It is for
// hot rows: choose a key that names the row, as in "account/42". Other processes
// conflict as ever. Waiting holds no connection and ends with the context, or
// with the time of [WithMaxElapsed]. A transaction inside another with the same
// key would wait for itself. Default, and "": none.
func WithSerialKey(key string) RetryOption {
	return func(r *retrier) error {
		r.serialKey = key
		return nil
	}
}

// RetryEvent is an attempt that failed and is going to be made again.
type RetryEvent struct {
	Attempt int           // the one that failed; the first is 1
	Delay   time.Duration // before the next, unless a commit of another ends it
	Err     error         // why it failed
}

// RetryError says that the attempts, the time or the context ended before the
// transaction could commit. Nothing has been committed. An outer [Retry] or
// [RunTx] does not retry it.
type RetryError struct {
	Attempts int           // made
	Elapsed  time.Duration // since the start
	Err      error         // the last conflict, and the context's error if that ended it
}

// Error tells the attempts, the time and the last conflict.
func (e *RetryError) Error() string {
	attempts := "1 attempt"
	if e.Attempts != 1 {
		attempts = fmt.Sprintf("%d attempts", e.Attempts)
	}
	return fmt.Sprintf("dsql: gave up after %s in %v: %v", attempts, e.Elapsed.Round(time.Millisecond), e.Err)
}

// Unwrap returns the last conflict, and the context's error if that ended it.
func (e *RetryError) Unwrap() error { return e.Err }

// Retry runs fn, again whenever its error says that nothing was done: a
// conflict, a stale plan after a schema change, or a failure to connect. It is
// for statements outside a transaction, DDL among them; fn must be safe to run
// again. A connection that was cut leaves open whether the statement was
// applied, so that error is returned, as any other is.
func Retry(ctx context.Context, fn func(context.Context) error, opts ...RetryOption) error {
	r, err := newRetrier(nil, opts)
	if err != nil {
		return err
	}
	return r.run(ctx, func() (failure, error) {
		err := fn(ctx)
		if err == nil {
			return final, nil
		}
		return singleFailure(err), err
	})
}

// Who goes next in this process.
var (
	losers turn.Losers
	serial turn.Serial
)

// retrier is what the options say, and how far one run has come.
type retrier struct {
	db           any // what losers go by; nil: nothing
	maxAttempts  int // 0: no limit
	maxElapsed   time.Duration
	conflictWait backoff
	txOptions    pgx.TxOptions
	onRetry      func(RetryEvent)
	serialKey    string

	start    time.Time
	took     time.Duration // by the last attempt
	attempts int
	failures [connectLimit + 1]int // by kind
	serial   bool                  // it has the turn of serialKey
	woken    bool                  // losers ended its wait
}

func newRetrier(db any, opts []RetryOption) (*retrier, error) {
	r := &retrier{maxElapsed: defaultMaxElapsed, conflictWait: conflictWait}
	if reflect.ValueOf(db).Comparable() {
		r.db = db
	}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("dsql: retry option %d is nil", i+1)
		}
		if err := opt(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// run makes attempts until one succeeds, one fails for good, or the budget is
// used up.
func (r *retrier) run(ctx context.Context, attempt func() (failure, error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("dsql: not begun: %w", err)
	}
	r.start = time.Now()
	// Deferred, as an attempt may panic.
	defer r.leaveSerial()
	defer r.endTurn()
	if err := r.enterSerial(ctx, false); err != nil {
		return r.gaveUp(err)
	}
	var last error
	for {
		began := time.Now()
		f, err := attempt()
		r.took = time.Since(began)
		r.endTurn()
		if err == nil {
			r.leaveSerial()
			losers.Committed(ctx, r.db, min(r.took, r.conflictWait.max))
			return nil
		}
		r.attempts++
		if f == final {
			return r.final(ctx, err, last)
		}
		last = err
		r.failures[f]++
		if err := r.wait(ctx, f, err); err != nil {
			return err
		}
	}
}

// wait waits for the next attempt, or gives up.
func (r *retrier) wait(ctx context.Context, f failure, err error) error {
	delay, ok := r.delay(f)
	left := r.maxElapsed - time.Since(r.start)
	if ctx.Err() != nil {
		return r.gaveUp(fmt.Errorf("%w, after: %w", ctx.Err(), err))
	}
	if !ok || left <= 0 || r.attempts == r.maxAttempts {
		return r.gaveUp(err)
	}
	delay = min(delay, left)
	if r.onRetry != nil {
		r.onRetry(RetryEvent{Attempt: r.attempts, Delay: delay, Err: err})
	}
	if waitErr := r.sleep(ctx, f, delay); waitErr != nil {
		return r.gaveUp(fmt.Errorf("%w, after: %w", waitErr, err))
	}
	return nil
}

func (r *retrier) sleep(ctx context.Context, f failure, delay time.Duration) (err error) {
	switch {
	case f == dataConflict && r.serialKey != "" && !r.serial:
		return r.enterSerial(ctx, true)
	case delay == 0:
		return nil
	case f == dataConflict && r.db != nil && !r.serial:
		r.woken, err = losers.Wait(ctx, r.db, r.start, delay)
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

// enterSerial waits for the turn of the serial key. If nobody has it, it is taken
// when the key is hot.
func (r *retrier) enterSerial(ctx context.Context, hot bool) (err error) {
	if r.serialKey != "" {
		r.serial, err = serial.Enter(ctx, r.serialKey, hot, r.maxElapsed-time.Since(r.start))
	}
	return err
}

func (r *retrier) leaveSerial() {
	if r.serial {
		r.serial = false
		serial.Leave(r.serialKey)
	}
}

// endTurn ends the turn that a commit gave to this attempt.
func (r *retrier) endTurn() {
	if r.woken {
		r.woken = false
		losers.End(r.db)
	}
}

func (r *retrier) gaveUp(err error) error {
	return &RetryError{Attempts: r.attempts, Elapsed: time.Since(r.start), Err: err}
}

// final is the error of an attempt that is not made again. If the context ended
// it, the conflict before is told too.
func (r *retrier) final(ctx context.Context, err, last error) error {
	var unknown *CommitUnknownError
	if last == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) || errors.As(err, &unknown) {
		return err
	}
	return r.gaveUp(fmt.Errorf("%w, after: %w", err, last))
}
