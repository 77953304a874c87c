package fairness

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// waiting starts a wait of an hour, and reports whether it was woken.
func waiting(ctx context.Context, w *Waiters, key any, since time.Time) <-chan bool {
	done := make(chan bool, 1)
	go func() {
		woken, err := w.Wait(ctx, key, since, time.Hour)
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

func TestWakingTakesTheOldestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Waiters
		w.Wake("db") // no transaction waits
		now := time.Now()
		young := waiting(t.Context(), &w, "db", now.Add(2))
		old := waiting(t.Context(), &w, "db", now)
		middle := waiting(t.Context(), &w, "db", now.Add(1))
		elsewhere := waiting(t.Context(), &w, "other", now.Add(-1))

		require.Equal(t, 3, w.Len("db"))
		require.Zero(t, w.Len("none"))
		w.Wake("db")
		require.True(t, isDone(old))
		w.Wake("db")
		require.False(t, isDone(middle), "the attempt of the first has not ended")
		w.Done("db")
		w.Wake("db")
		require.True(t, isDone(middle))
		w.Done("db")
		w.Wake("db")
		require.True(t, isDone(young))
		w.Done("db")
		require.False(t, isDone(elsewhere))
		w.Wake("other")
		require.True(t, isDone(elsewhere))
		w.Done("other")
		require.Empty(t, w.groups)
		require.Zero(t, w.waiting.Load())
	})
}

func TestWaitingTakesNoLongerThanItsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Waiters
		start := time.Now()
		woken, err := w.Wait(t.Context(), "db", start, time.Minute)
		require.NoError(t, err)
		require.False(t, woken)
		require.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		woken, err = w.Wait(ctx, "db", start, time.Hour)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, woken)
		require.Empty(t, w.groups)
	})
}

// A waiter whose context ends just as it is woken must still say when its attempt has ended.
func TestWakingRacesWithTheEndOfTheContext(t *testing.T) {
	var w Waiters
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() {
			woken, _ := w.Wait(ctx, "db", time.Now(), time.Hour)
			done <- woken
		}()
		go cancel()
		w.Wake("db")
		if <-done {
			w.Done("db")
		}
		require.Empty(t, w.groups)
	}
}

// hold acquires key in the background, and reports when it has it.
func hold(t *testing.T, s *Serial, key any) <-chan bool {
	t.Helper()
	done := make(chan bool, 1)
	go func() {
		holds, err := s.Acquire(t.Context(), key, false, time.Hour)
		done <- holds && err == nil
	}()
	synctest.Wait()
	return done
}

func TestSerialIsFirstComeFirstServedAfterAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Serial
		holds, err := s.Acquire(t.Context(), "k", false, time.Hour)
		require.NoError(t, err)
		require.False(t, holds, "without a conflict no transaction waits")
		holds, err = s.Acquire(t.Context(), "k", true, time.Hour)
		require.NoError(t, err)
		require.True(t, holds)
		holds, err = s.Acquire(t.Context(), "another", false, time.Hour)
		require.NoError(t, err)
		require.False(t, holds)

		first, second := hold(t, &s, "k"), hold(t, &s, "k")
		require.False(t, isDone(first))
		s.Release("k", true)
		require.True(t, isDone(first))
		require.False(t, isDone(second))
		s.Release("k", true)
		require.True(t, isDone(second))
		s.Release("k", true)
		require.Empty(t, s.keys)
	})
}

// The limit is doubled after each minPatience commits; a conflict sets it back to one, and makes
// the next try take twice as many.
func TestSerialFindsItsWayBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Serial
		_, err := s.Acquire(t.Context(), "k", true, time.Hour)
		require.NoError(t, err)
		const crowd = 2000
		var queue []<-chan bool
		for range crowd {
			queue = append(queue, hold(t, &s, "k"))
		}
		served := 0
		running := func() int {
			for served < crowd && isDone(queue[served]) {
				served++
			}
			if s.keys["k"] == nil {
				return 0
			}
			return s.keys["k"].running
		}
		commit := func(n int) {
			for range n {
				s.Release("k", true)
			}
		}
		require.Equal(t, 1, running())
		commit(minPatience - 1)
		require.Equal(t, 1, running())
		commit(1)
		require.Equal(t, 2, running())
		commit(minPatience)
		require.Equal(t, 4, running())
		s.Release("k", false)
		require.Equal(t, 4, running())
		commit(minPatience)
		require.Equal(t, 8, running())

		s.Conflict("k")
		commit(7) // those that run finish
		require.Equal(t, 1, running())
		commit(2*minPatience - 7 - 1)
		require.Equal(t, 1, running())
		commit(1)
		require.Equal(t, 2, running())
		for s.keys["k"] != nil {
			commit(1)
			running()
		}
		require.Equal(t, crowd, served)
	})
}

func TestSerialWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Serial
		_, err := s.Acquire(t.Context(), "k", true, time.Hour)
		require.NoError(t, err)

		start := time.Now()
		holds, err := s.Acquire(t.Context(), "k", false, time.Minute)
		require.ErrorIs(t, err, ErrTimeout)
		require.False(t, holds)
		require.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		holds, err = s.Acquire(ctx, "k", true, time.Hour)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, holds)

		s.Release("k", false)
		require.Empty(t, s.keys, "what stopped waiting is not let in")
	})
}

func TestSerialTurnRacesWithTheEndOfTheContext(t *testing.T) {
	var s Serial
	for range 1000 {
		_, err := s.Acquire(t.Context(), "k", true, time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() {
			holds, _ := s.Acquire(ctx, "k", true, time.Hour)
			done <- holds
		}()
		go cancel()
		s.Release("k", false)
		if <-done {
			s.Release("k", false)
		}
		require.Empty(t, s.keys)
	}
}

func TestIdleSerialKeysGiveTheirMemoryBack(t *testing.T) {
	var s Serial
	_, err := s.Acquire(t.Context(), "hot for ever", true, time.Hour)
	require.NoError(t, err)
	before := heap()
	const keys = 300_000
	for i := range keys {
		holds, err := s.Acquire(t.Context(), strconv.Itoa(i), true, time.Hour)
		if err != nil || !holds {
			require.Fail(t, "no turn", "key %d: %v, %v", i, holds, err)
		}
	}
	full := heap()
	for i := range keys {
		s.Release(strconv.Itoa(i), false)
	}
	after := heap()
	require.Len(t, s.keys, 1)
	require.Greater(t, full-before, int64(10<<20))
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
			if holds, err := s.Acquire(context.Background(), "account/42", false, time.Hour); holds || err != nil {
				b.Error(holds, err)
			}
		}
	})
}
