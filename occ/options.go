package occ

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// RetryOption sets how [RunTx], [RunTxValue], [RunTxOf], [RunSQLTx], [RunBatch] and [Retry] retry.
type RetryOption func(*policy) error

// policy is what the options of one call say.
type policy struct {
	maxAttempts  int // 0: no limit
	maxElapsed   time.Duration
	conflictWait backoff
	txOptions    pgx.TxOptions
	onRetry      func(RetryEvent)
	serialKey    string
	interrupts   bool // WithMaxElapsed was given: it ends statements too
	idempotent   bool
	autocommits  bool // of Retry: what an attempt did is not rolled back
	commitCheck  func(context.Context) (applied bool, err error)
}

const (
	defaultMaxElapsed = 30 * time.Second

	// Values beyond these are mistakes.
	attemptsLimit = 1_000_000
	delayLimit    = 10 * time.Minute
	elapsedLimit  = 24 * time.Hour
)

// set applies the defaults, then opts.
func (p *policy) set(opts []RetryOption) error {
	p.maxElapsed, p.conflictWait = defaultMaxElapsed, conflictWait
	for i, opt := range opts {
		if opt == nil {
			return fmt.Errorf("occ: retry option %d is nil", i+1)
		}
		if err := opt(p); err != nil {
			return err
		}
	}
	return nil
}

// WithMaxAttempts gives up after n attempts, at most 1,000,000. Default, and 0: only the time is
// limited.
func WithMaxAttempts(n int) RetryOption {
	return func(p *policy) error {
		if n < 0 || n > attemptsLimit {
			return fmt.Errorf("occ: invalid number of attempts %d: must be 1 to %d, or 0 for no limit", n, attemptsLimit)
		}
		p.maxAttempts = n
		return nil
	}
}

// WithBackoff sets the waits after conflicts. Each wait is random, from 0 to a bound that starts at
// base, grows fourfold with each conflict and ends at max. From the second conflict on, the bound
// is larger while many transactions of this process wait on the same database. Defaults, and 0: 10
// ms and 500 ms; at most 10 minutes. When a transaction on that database ends, the waiting one that
// began first retries. The waits after a failure to connect are longer, and WithBackoff does not
// set them.
func WithBackoff(base, max time.Duration) RetryOption {
	return func(p *policy) error {
		if base < 0 || max < 0 || base > delayLimit || max > delayLimit {
			return fmt.Errorf("occ: invalid backoff of %v to %v: each must be 0 to %v, 0 for the default", base, max, delayLimit)
		}
		if base > 0 && max > 0 && base > max {
			return fmt.Errorf("occ: invalid backoff of %v to %v: base must not exceed max", base, max)
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
		p.conflictWait = backoff{base, max}
		return nil
	}
}

// WithMaxElapsed gives up when an attempt fails d or later after the start. Default, and 0: 30
// seconds. It bounds waiting too: for a connection, for a BEGIN in a round trip of its own, for the
// serial key, between attempts and for the answer to ROLLBACK, which has half a second more. A d
// other than 0, at most 24 hours, also ends a statement of [RunTx], [RunTxValue], [RunSQLTx] or
// [RunBatch] that is running when the time is over, and closes its connection. COMMIT is bounded by
// ctx only.
func WithMaxElapsed(d time.Duration) RetryOption {
	return func(p *policy) error {
		if d < 0 || d > elapsedLimit {
			return fmt.Errorf("occ: invalid elapsed time %v: must be 0 to %v, 0 for the default", d, elapsedLimit)
		}
		p.maxElapsed, p.interrupts = d, d > 0
		if d == 0 {
			p.maxElapsed = defaultMaxElapsed
		}
		return nil
	}
}

// WithTxOptions begins every attempt with o. DSQL's isolation level is repeatable read. [RunBatch]
// refuses it, [RunSQLTx] accepts only an isolation level and an access mode, [RunTxOf] uses only
// the access mode, and [Retry] ignores it.
func WithTxOptions(o pgx.TxOptions) RetryOption {
	return func(p *policy) error {
		p.txOptions = o
		return nil
	}
}

// WithOnRetry calls f before each wait, on the goroutine that waits. Several are called in order;
// nil has no effect.
func WithOnRetry(f func(RetryEvent)) RetryOption {
	return func(p *policy) error {
		before := p.onRetry
		switch {
		case f == nil:
		case before == nil:
			p.onRetry = f
		default:
			p.onRetry = func(e RetryEvent) {
				before(e)
				f(e)
			}
		}
		return nil
	}
}

// WithSerialKey makes the transactions of this process on one database handle that have the same
// key run one after another, first come first served, from the moment one of them conflicts. After
// some commits without a conflict two may run at once, then four, then all; another conflict makes
// it one again. Without conflicts it costs nothing. It is for hot rows: choose a key that names the
// row, such as "account/42". Other processes conflict as usual. Waiting holds no connection and
// ends with the context, or with the time of [WithMaxElapsed]. A transaction inside another with
// the same key would wait for itself. Calls of [Retry] and [RunTxOf] have no handle: all those with
// the same key queue together. Default, and "": none.
func WithSerialKey(key string) RetryOption {
	return func(p *policy) error {
		p.serialKey = key
		return nil
	}
}

// WithCommitCheck calls f to find out whether a COMMIT that was sent and not answered was applied.
// If it reports that the transaction was applied, RunTx returns nil; if not, the transaction is run
// again; if f fails, RunTx returns the [*CommitUnknownError] together with f's error. f must use a
// connection of its own, and is run again if that is lost.
//
// A COMMIT that is still on its way when f looks may be applied afterwards. So the transaction must
// write a row with a unique key, such as the ID of the request, and f must look for that row: then
// the late COMMIT and the one of the second run cannot both be applied. If the second run fails
// permanently, which that row may have caused, f is called again, unless the time or ctx has ended:
// then RunTx returns the error together with the [*CommitUnknownError]. If f finds the late COMMIT,
// [RunTxValue] returns the value of its run; a variable that the callback sets keeps the value of
// the last run. [Retry] ignores the option. Default, and nil: no check.
func WithCommitCheck(f func(ctx context.Context) (applied bool, err error)) RetryOption {
	return func(p *policy) error {
		p.commitCheck = f
		return nil
	}
}

// WithIdempotent makes [Retry] also run its function again when a connection was lost or a part of
// DSQL was unavailable, and so a statement may have been applied. It is for reads, and for writes
// that may be applied twice. The other functions ignore it.
func WithIdempotent() RetryOption {
	return func(p *policy) error {
		p.idempotent = true
		return nil
	}
}
