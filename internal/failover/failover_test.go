package failover

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// order returns what a connection would try now.
func order(s *Set) []int {
	p := s.Plan()
	defer p.Done()
	return p.Order
}

func TestRestDoublesUpToAMinuteAndOneConnectionTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(2)
		require.Equal(t, []int{0, 1}, order(s))
		for i, rest := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			rest *= time.Second
			began := time.Now()
			require.Equal(t, i == 0, s.Failed(0, began, true, "gone"), "a change is reported once")
			until := s.States()[0].Until.Sub(began)
			require.True(t, until > rest*3/4 && until <= rest, until)
			require.Equal(t, []int{1}, order(s))
			time.Sleep(until + 1)

			probe := s.Plan()
			require.Equal(t, []int{0, 1}, probe.Order)
			require.Equal(t, []int{1}, order(s), "others do not try it")
			probe.Done()
		}
		require.True(t, s.Succeeded(0, time.Now()))
		require.False(t, s.Succeeded(0, time.Now()))
		require.Equal(t, []int{0, 1}, order(s))
		require.Equal(t, State{}, s.States()[0])
	})
}

func TestFailuresOfOneMomentCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(2)
		began := time.Now()
		time.Sleep(time.Second)
		require.True(t, s.Failed(0, began, true, ""))
		until := s.States()[0].Until
		for range 31 {
			require.False(t, s.Failed(0, began, true, ""))
		}
		require.Equal(t, until, s.States()[0].Until)
		require.False(t, s.Succeeded(0, began), "a success from before says nothing")
	})
}

func TestWhereAllRestAllAreTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(3)
		for _, i := range []int{2, 0, 1} {
			s.Failed(i, time.Now(), true, "")
		}
		tried := order(s)
		require.ElementsMatch(t, []int{0, 1, 2}, tried)
		states := s.States()
		for i := range tried[1:] {
			require.False(t, states[tried[i+1]].Until.Before(states[tried[i]].Until), "the earliest end of a rest comes first")
		}
	})
}

func TestASingleEndpointNeverRests(t *testing.T) {
	s := New(1)
	require.False(t, s.Failed(0, time.Now(), true, "gone"))
	require.Equal(t, []int{0}, order(s))
	require.Equal(t, State{}, s.States()[0])
}

func TestConnectionsRetireSpreadOutWhenAnEndpointIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(2)
		s.Failed(0, time.Now(), true, "gone")
		opened := time.Now()
		time.Sleep(time.Hour)
		require.False(t, s.Spent(1, opened, 0), "the endpoint is not back")
		s.Succeeded(0, time.Now())
		for minute := range 5 {
			require.True(t, s.Spent(1, opened, float64(minute)/5), minute)
			require.False(t, s.Spent(1, opened, float64(minute)/5+0.1), minute)
			time.Sleep(time.Minute)
		}
		require.True(t, s.Spent(1, opened, 1))
		require.False(t, s.Spent(0, time.Now(), 0), "the preferred one's stay")
	})
}

func TestALostEndpointsConnectionsAreSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(2)
		opened := time.Now()
		time.Sleep(time.Second)
		s.Failed(0, time.Now(), false, "53300")
		require.False(t, s.Spent(0, opened, 1), "a limit says nothing of open connections")
		time.Sleep(time.Second)
		s.Failed(0, time.Now(), true, "reset")
		require.True(t, s.Spent(0, opened, 1))
		require.True(t, s.Lost(0, opened))
		time.Sleep(time.Minute)
		s.Succeeded(0, time.Now())
		require.True(t, s.Spent(0, opened, 1), "also when it is back")
		require.False(t, s.Spent(0, time.Now(), 1))
	})
}

// pipe returns a dial function to a server that says nothing, or something.
func pipe(answers bool) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			b := make([]byte, 4096)
			if _, err := server.Read(b); err == nil && answers {
				_, _ = server.Write([]byte{21, 3, 3, 0, 2, 2, 40}) // an alert is an answer
			}
			for {
				if _, err := server.Read(b); err != nil {
					return
				}
			}
		}()
		return client, nil
	}
}

func TestReadFromABlackHoleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dog Watchdog
		silent := 0
		conn, _ := net.Pipe()
		w := dog.Watch(conn, Probe{Dial: pipe(false), TLS: &tls.Config{ServerName: "example.com"}, Silent: func(time.Time, error) { silent++ }})
		began := time.Now()
		_, err := w.Read(make([]byte, 1))
		require.Error(t, err)
		require.Equal(t, silence+probeTimeout, time.Since(began))
		require.Equal(t, 1, silent)
	})
}

func TestReadFromAnEndpointThatAnswersProbesGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dog Watchdog
		conn, server := net.Pipe()
		var probes atomic.Int64
		w := dog.Watch(conn, Probe{
			Dial:   func(ctx context.Context) (net.Conn, error) { probes.Add(1); return pipe(true)(ctx) },
			TLS:    &tls.Config{ServerName: "example.com"},
			Silent: func(_ time.Time, err error) { t.Error(err) },
		})
		go func() {
			time.Sleep(time.Minute)
			_, _ = server.Write([]byte{1})
		}()
		n, err := w.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Less(t, probes.Load(), int64(10))
		require.Positive(t, probes.Load())
		require.NoError(t, w.Close())
	})
}

func TestCancelRequestWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent []error
		note := func(err error) { silent = append(silent, err) }
		conn, err := DialCancel(t.Context(), pipe(false), note)
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.Len(t, silent, 1)
		require.NoError(t, conn.Close())

		refused := errors.New("refused")
		_, err = DialCancel(t.Context(), func(context.Context) (net.Conn, error) { return nil, refused }, note)
		require.ErrorIs(t, err, refused)
		require.Len(t, silent, 2)

		conn, err = DialCancel(t.Context(), pipe(true), note)
		require.NoError(t, err)
		_, err = conn.Write([]byte{1})
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 7))
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.Len(t, silent, 2)
	})
}
