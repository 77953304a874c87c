package fairness

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// waiting starts a wait of an hour, and tells its result.
func waiting(ctx context.Context, l *Waiters, db any, since time.Time) <-chan bool {
	done := make(chan bool, 1)
	go func() {
		woken, err := l.Wait(ctx, db, since, time.Hour)
		done <- woken && err == nil
	}()
	synctest.Wait()
	return done
}

func isDone(c <-chan bool) bool {
	synctest.Wait()
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// commit makes as many commits as it takes to wake somebody.
func commit(t *testing.T, l *Waiters, db any) {
	t.Helper()
	for range wakeEvery {
		l.Committed(t.Context(), db, 0)
	}
}

func TestCommitsWakeWhoBeganFirstOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Waiters
		commit(t, &l, "db") // nobody waits
		now := time.Now()
		young := waiting(t.Context(), &l, "db", now.Add(2))
		old := waiting(t.Context(), &l, "db", now)
		middle := waiting(t.Context(), &l, "db", now.Add(1))
		elsewhere := waiting(t.Context(), &l, "other", now.Add(-1))

		require.Equal(t, 3, l.Len("db"))
		require.Zero(t, l.Len("none"))
		commit(t, &l, "db")
		require.True(t, isDone(old))
		commit(t, &l, "db")
		require.False(t, isDone(middle), "the turn of the first has not ended")
		l.Done("db")
		commit(t, &l, "db")
		require.True(t, isDone(middle))
		l.Done("db")
		commit(t, &l, "db")
		require.True(t, isDone(young))
		require.False(t, isDone(elsewhere))
		commit(t, &l, "other")
		require.True(t, isDone(elsewhere))
		l.Done("db")
		l.Done("other")
		require.Empty(t, l.queues)
		require.Zero(t, l.waiting.Load())
	})
}

func TestWhoCommittedLetsTheLoserGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			end  func(l *Waiters, cancel func())
			took time.Duration
		}{
			"until its turn ends":     {func(l *Waiters, _ func()) { l.Done("db") }, time.Second},
			"until the context ends":  {func(_ *Waiters, cancel func()) { cancel() }, time.Second},
			"at most as long as told": {func(*Waiters, func()) {}, time.Minute},
		} {
			var l Waiters
			lost := waiting(t.Context(), &l, "db", time.Now())
			for range wakeEvery - 1 {
				l.Committed(t.Context(), "db", time.Minute)
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, func() { test.end(&l, cancel) })
			start := time.Now()
			l.Committed(ctx, "db", time.Minute)
			require.Equal(t, test.took, time.Since(start), name)
			require.True(t, isDone(lost))
			cancel()
		}
	})
}

func TestLoserWaitsNoLongerThanItsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Waiters
		start := time.Now()
		woken, err := l.Wait(t.Context(), "db", start, time.Minute)
		require.NoError(t, err)
		require.False(t, woken)
		require.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		woken, err = l.Wait(ctx, "db", start, time.Hour)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, woken)
		require.Empty(t, l.queues)
	})
}

// A loser whose context ends just as it is woken must still end its turn.
func TestWakingMeetsTheEndOfTheContext(t *testing.T) {
	var l Waiters
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() {
			woken, _ := l.Wait(ctx, "db", time.Now(), time.Hour)
			done <- woken
		}()
		go cancel()
		commit(t, &l, "db")
		if <-done {
			l.Done("db")
		}
		require.Empty(t, l.queues)
	}
}

func TestSerialTurnsComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Serial
		took, err := s.Acquire(t.Context(), "k", false, time.Hour)
		require.NoError(t, err)
		require.False(t, took, "a cold key makes nobody wait")
		took, err = s.Acquire(t.Context(), "k", true, time.Hour)
		require.NoError(t, err)
		require.True(t, took)
		took, err = s.Acquire(t.Context(), "another", false, time.Hour)
		require.NoError(t, err)
		require.False(t, took)

		turns := make(chan int, 3)
		for i := range 3 {
			go func() {
				took, err := s.Acquire(t.Context(), "k", false, time.Hour)
				if err == nil && took {
					turns <- i
				}
			}()
			synctest.Wait()
		}
		for i := range 3 {
			require.Empty(t, turns)
			s.Release("k")
			require.Equal(t, i, <-turns)
			synctest.Wait()
		}
		s.Release("k")
		require.Empty(t, s.keys)
	})
}

func TestSerialWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Serial
		_, err := s.Acquire(t.Context(), "k", true, time.Hour)
		require.NoError(t, err)

		start := time.Now()
		took, err := s.Acquire(t.Context(), "k", false, time.Minute)
		require.ErrorIs(t, err, ErrTimeout)
		require.False(t, took)
		require.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		took, err = s.Acquire(ctx, "k", true, time.Hour)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, took)

		s.Release("k")
		require.Empty(t, s.keys, "who stopped waiting is not given the turn")
	})
}

func TestSerialTurnMeetsTheEndOfTheContext(t *testing.T) {
	var s Serial
	for range 1000 {
		_, err := s.Acquire(t.Context(), "k", true, time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() {
			took, _ := s.Acquire(ctx, "k", true, time.Hour)
			done <- took
		}()
		go cancel()
		s.Release("k")
		if <-done {
			s.Release("k")
		}
		require.Empty(t, s.keys)
	}
}

func TestIdleSerialKeysGiveTheirMemoryBack(t *testing.T) {
	var s Serial
	_, err := s.Acquire(t.Context(), "hot for ever", true, time.Hour)
	require.NoError(t, err)
	before := heap()
	const keys = 1_000_000
	for i := range keys {
		took, err := s.Acquire(t.Context(), strconv.Itoa(i), true, time.Hour)
		if err != nil || !took {
			require.Fail(t, "no turn", "key %d: %v, %v", i, took, err)
		}
	}
	full := heap()
	for i := range keys {
		s.Release(strconv.Itoa(i))
	}
	after := heap()
	require.Len(t, s.keys, 1)
	require.Greater(t, full-before, int64(30<<20))
	require.Less(t, after-before, int64(1<<20), "kept of %d bytes", full-before)
	runtime.KeepAlive(&s)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkColdSerialKey(b *testing.B) {
	var s Serial
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if took, err := s.Acquire(context.Background(), "account/42", false, time.Hour); took || err != nil {
				b.Error(errors.Join(err, fmt.Errorf("took the turn: %v", took)))
			}
		}
	})
}
