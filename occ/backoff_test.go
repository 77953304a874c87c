package occ

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryWaitIsWithinItsBound(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		b := backoff{max: time.Duration(random.Int64N(int64(delayLimit))) + 1}
		b.base = time.Duration(random.Int64N(int64(b.max))) + 1
		last := time.Duration(0)
		for _, n := range []int{1, 2, 3, 10, 31, 32, 33, 60, 63, 64, 65, 10_000} {
			bound := b.bound(n)
			require.GreaterOrEqual(t, bound, last)
			require.LessOrEqual(t, bound, b.max)
			wait := b.wait(n)
			require.GreaterOrEqual(t, wait, time.Duration(0))
			require.LessOrEqual(t, wait, bound)
			last = bound
		}
		require.Equal(t, b.base, b.bound(1))
		require.Equal(t, b.max, b.bound(10_000))
	}
}

func TestWaitsForConnectionsAreLonger(t *testing.T) {
	t.Parallel()
	require.Greater(t, connectWait.base, conflictWait.base)
	require.Greater(t, limitWait.base, connectWait.base)
	require.Less(t, conflictWait.max, time.Second)
}
