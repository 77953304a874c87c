package occ_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// always returns a function that always fails with err.
func always(calls *int, err error) func(context.Context) error {
	return func(context.Context) error {
		*calls++
		return err
	}
}

func TestRetryRunsAgainUntilItSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, err := range []error{
			pgError("40001", dataMessage),
			pgError("40001", schemaMessage),
			pgError("0A000", "cached plan must not change result type"),
			pgError("08P01", "bind message has 1 result formats but query has 2 columns"),
			pgError("53300", "Unable to accept connection, too many open connections."),
			pgError("53400", "Unable to accept connection, rate exceeded."),
		} {
			calls := 0
			require.NoError(t, occ.Retry(t.Context(), func(context.Context) error {
				if calls++; calls < 3 {
					return err
				}
				return nil
			}), err)
			require.Equal(t, 3, calls)
		}
	})
}

// Outside a transaction these leave open whether the statement was applied, or
// come back each time.
func TestRetryReturnsOtherErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		errors.New("other"),
		pgError("XX000", "server unavailable"),
		pgError("08006", "connection failure"),
		pgError("08006", deniedMessage),
		pgError("57P01", "terminating connection"),
		pgError("23505", dataMessage),
		&occ.CommitUnknownError{Err: pgError("40001", dataMessage)},
	} {
		calls := 0
		require.Same(t, err, occ.Retry(t.Context(), always(&calls, err)))
		require.Equal(t, 1, calls, err)
	}
}

func TestRetryGivesUp(t *testing.T) {
	t.Parallel()
	data := pgError("40001", dataMessage)
	synctest.Test(t, func(t *testing.T) {
		var calls int
		var gaveUp *occ.RetryError

		err := occ.Retry(t.Context(), always(&calls, data), occ.WithMaxAttempts(3))
		require.ErrorAs(t, err, &gaveUp)
		require.Equal(t, 3, calls)
		require.Equal(t, 3, gaveUp.Attempts)
		require.ErrorIs(t, err, data)

		start := time.Now()
		err = occ.Retry(t.Context(), always(&calls, data))
		require.ErrorAs(t, err, &gaveUp)
		require.Equal(t, 30*time.Second, time.Since(start), "the default time")
		require.Equal(t, 30*time.Second, gaveUp.Elapsed)

		start = time.Now()
		err = occ.Retry(t.Context(), always(&calls, data), occ.WithMaxElapsed(time.Minute))
		require.ErrorAs(t, err, &gaveUp)
		require.Equal(t, time.Minute, time.Since(start))
	})
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	data := pgError("40001", dataMessage)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		err := occ.Retry(ctx, always(&calls, data), occ.WithBackoff(time.Minute, time.Minute),
			occ.WithOnRetry(func(e occ.RetryEvent) {
				if e.Attempt == 1 {
					time.AfterFunc(e.Delay/2, cancel)
				}
			}))
		var gaveUp *occ.RetryError
		require.ErrorAs(t, err, &gaveUp)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, data)
		require.Equal(t, 1, gaveUp.Attempts)
		require.ErrorContains(t, err, "gave up after 1 attempt")

		// Ended before: nothing runs. Ended by the function: no wait.
		require.ErrorIs(t, occ.Retry(ctx, always(&calls, data)), context.Canceled)
		require.Equal(t, 1, calls)
		ctx, cancel = context.WithCancel(t.Context())
		err = occ.Retry(ctx, func(context.Context) error { cancel(); return data })
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, data)

		// Ended in a later attempt: the conflict before is reported.
		ctx, cancel = context.WithCancel(t.Context())
		calls = 0
		err = occ.Retry(ctx, func(ctx context.Context) error {
			if calls++; calls == 1 {
				return data
			}
			cancel()
			return ctx.Err()
		})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, data)
		require.ErrorContains(t, err, "gave up after 2 attempts")
	})
}

func TestAttemptsDoNotMultiply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := occ.Retry(t.Context(), func(ctx context.Context) error {
			return occ.Retry(ctx, always(&calls, pgError("40001", dataMessage)), occ.WithMaxAttempts(3))
		})
		var gaveUp *occ.RetryError
		require.ErrorAs(t, err, &gaveUp)
		require.Equal(t, 3, gaveUp.Attempts)
		require.Equal(t, 3, calls)
	})
}

func TestRunTxInRetryDoesNotMultiply(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(math.MaxInt, "execute", commit, conflict()))
	err := occ.Retry(t.Context(), func(ctx context.Context) error {
		return occ.RunTx(ctx, s.pool, func(pgx.Tx) error { return nil }, quick(), occ.WithMaxAttempts(3))
	})
	require.True(t, occ.IsConflict(err))
	require.Equal(t, 3, s.Count("begin"))
}

func TestOnRetrySeesEveryWait(t *testing.T) {
	t.Parallel()
	data := pgError("40001", dataMessage)
	synctest.Test(t, func(t *testing.T) {
		var seen events
		var waited time.Duration
		start := time.Now()
		calls := 0
		err := occ.Retry(t.Context(), always(&calls, data), occ.WithMaxAttempts(9),
			occ.WithBackoff(time.Second, 3*time.Second), occ.WithMaxElapsed(time.Hour), seen.option())
		require.Error(t, err)
		require.Len(t, seen.all, 8)
		for i, event := range seen.all {
			require.Equal(t, i+1, event.Attempt)
			require.Same(t, data, event.Err)
			require.GreaterOrEqual(t, event.Delay, time.Duration(0))
			require.LessOrEqual(t, event.Delay, 3*time.Second)
			waited += event.Delay
		}
		require.LessOrEqual(t, seen.all[0].Delay, time.Second)
		require.Equal(t, waited, time.Since(start))
	})
}

// After a schema change the retry is what refreshes the session.
func TestSchemaConflictIsRetriedAtOnceTheFirstTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen events
		calls := 0
		err := occ.Retry(t.Context(), always(&calls, pgError("40001", schemaMessage)), seen.option())
		require.Error(t, err)
		require.Zero(t, seen.all[0].Delay)
		later := time.Duration(0)
		for _, event := range seen.all[1:] {
			later += event.Delay
		}
		require.NotZero(t, later)
	})
}

func TestStalePlansAreRetriedAtOnceButNotForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		calls := 0
		err := occ.Retry(t.Context(), always(&calls, pgError("0A000", "cached plan must not change result type")))
		require.ErrorContains(t, err, "cached plan")
		require.Equal(t, 33, calls)
		require.Zero(t, time.Since(start))
	})
}

func TestIdempotentFunctionIsRunAgainWhenItsConnectionIsLost(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(2, fakepg.Execute, "select", fakepg.Reply{Cut: true}))
	var n int64
	read := func(ctx context.Context) error { return s.pool.QueryRow(ctx, selectN, 1).Scan(&n) }
	require.Error(t, occ.Retry(t.Context(), read))
	require.NoError(t, occ.Retry(t.Context(), read, occ.WithIdempotent()))
	require.EqualValues(t, 1, n)

	calls := 0
	require.Error(t, occ.Retry(t.Context(), always(&calls, pgError("08006", deniedMessage)), occ.WithIdempotent()))
	require.Equal(t, 1, calls, "a refused role stays refused")
}
