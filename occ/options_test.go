package occ_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/occ"
)

func TestRetryOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]occ.RetryOption{
		"nil":               nil,
		"negative attempts": occ.WithMaxAttempts(-1),
		"absurd attempts":   occ.WithMaxAttempts(math.MaxInt),
		"negative base":     occ.WithBackoff(-1, time.Second),
		"negative max":      occ.WithBackoff(time.Second, -1),
		"max under base":    occ.WithBackoff(time.Second, time.Second-1),
		"absurd base":       occ.WithBackoff(math.MaxInt64, 0),
		"absurd max":        occ.WithBackoff(time.Second, math.MaxInt64),
		"negative elapsed":  occ.WithMaxElapsed(-1),
		"absurd elapsed":    occ.WithMaxElapsed(math.MaxInt64),
	} {
		t.Run(name, func(t *testing.T) {
			ran := func(context.Context) error { t.Error("it ran"); return nil }
			require.ErrorContains(t, occ.Retry(t.Context(), ran, option), "occ: ")
			require.ErrorContains(t, occ.RunTx(t.Context(), nil, nil, option), "occ: ")
			require.ErrorContains(t, occ.RunSQLTx(t.Context(), nil, nil, option), "occ: ")
		})
	}
}

func TestZeroRetryOptionsAreDefaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		calls := 0
		err := occ.Retry(t.Context(), always(&calls, pgError("40001", dataMessage)),
			occ.WithMaxAttempts(0), occ.WithBackoff(0, 0), occ.WithMaxElapsed(0), occ.WithOnRetry(nil),
			occ.WithSerialKey(""), occ.WithTxOptions(pgx.TxOptions{}))
		require.Error(t, err)
		require.Equal(t, 30*time.Second, time.Since(start))
	})
}

func TestEveryOnRetryIsCalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls int
		var told []string
		note := func(who string) occ.RetryOption {
			return occ.WithOnRetry(func(e occ.RetryEvent) { told = append(told, fmt.Sprint(who, e.Attempt)) })
		}
		err := occ.Retry(t.Context(), always(&calls, pgError("40001", dataMessage)),
			note("a"), occ.WithOnRetry(nil), note("b"), occ.WithMaxAttempts(3))
		require.Error(t, err)
		require.Equal(t, []string{"a1", "b1", "a2", "b2"}, told)
	})
}

// One of two is given: the other's default gives way to it.
func TestHalfABackoffIsEnough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ base, max, most time.Duration }{
			{0, time.Millisecond, time.Millisecond},
			{10 * time.Second, 0, 10 * time.Second},
		} {
			var seen events
			calls := 0
			_ = occ.Retry(t.Context(), always(&calls, pgError("40001", dataMessage)),
				occ.WithBackoff(test.base, test.max), occ.WithMaxElapsed(time.Hour), occ.WithMaxAttempts(100), seen.option())
			longest := time.Duration(0)
			for _, event := range seen.all {
				longest = max(longest, event.Delay)
			}
			require.LessOrEqual(t, longest, test.most)
			require.Greater(t, longest, test.most/2, "of 99 random waits one is long")
		}
	})
}
