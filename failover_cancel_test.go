package dsql_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
)

// sessions are those of a server that answers no SELECT until it is canceled.
type sessions struct {
	mu       sync.Mutex
	open     []*fakepg.Conn
	canceled int
}

func (s *sessions) serve(c *fakepg.Conn) error {
	s.mu.Lock()
	s.open = append(s.open, c)
	s.mu.Unlock()
	for {
		msg, err := c.Receive()
		if err != nil {
			return err
		}
		if q, ok := msg.(*pgproto3.Query); !ok || !strings.HasPrefix(q.String, "-- ping") {
			continue
		}
		c.Send(&pgproto3.EmptyQueryResponse{})
		c.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := c.Flush(); err != nil {
			return err
		}
	}
}

func (s *sessions) cancel(pid, key uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid != 1 || key != 2 {
		return
	}
	s.canceled++
	for _, c := range s.open {
		c.Close()
	}
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.canceled
}

// one is a pool of one connection: what holds its place is noticed.
func one(p *pgxpool.Config) error { p.MaxConns = 1; return nil }

// expire runs a query whose context ends before it is answered.
func expire(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := pool.Exec(ctx, "SELECT 1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A cancel request goes to the endpoint of the connection, preferred or not.
func TestCancelRequestsGoToTheConnectionsEndpoint(t *testing.T) {
	for name, down := range map[string]bool{"preferred": false, "peer": true} {
		t.Run(name, func(t *testing.T) {
			var here, there sessions
			first := fakepg.Hooks{Session: here.serve, Cancel: here.cancel}
			if down {
				first.Accept = func(net.Conn) error { return io.EOF }
			}
			p := startPair(t, first, fakepg.Hooks{Session: there.serve, Cancel: there.cancel})
			pool, err := p.connector(t, dsql.WithPoolConfig(one)).NewPool(t.Context())
			require.NoError(t, err)
			defer pool.Close()
			expire(t, pool)
			want, other := &here, &there
			if down {
				want, other = other, want
			}
			require.Eventually(t, func() bool { return want.count() == 1 }, 30*time.Second, time.Millisecond)
			require.Zero(t, other.count())
		})
	}
}

// A cancel request that is not answered is given up after 2 seconds, not pgx's 15, with its
// connection's place in the pool; and the endpoint rests.
func TestCancelRequestToABlackHoleIsBounded(t *testing.T) {
	var silent atomic.Bool
	end := make(chan struct{})
	p := startPair(t, fakepg.Hooks{
		Accept: func(net.Conn) error {
			if silent.Load() {
				<-end
			}
			return nil
		},
		Session: func(c *fakepg.Conn) error { silent.Store(true); return new(sessions).serve(c) },
	}, fakepg.Hooks{})
	t.Cleanup(func() { close(end) })
	c := p.connector(t, dsql.WithPoolConfig(one))
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	defer pool.Close()
	expire(t, pool)
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	require.NoError(t, pool.Ping(ctx))
	require.Contains(t, c.Endpoints()[0].Cause, "cancel request was not answered")
	p.requirePeer(t)
}

func TestNoGoroutineSurvivesThePool(t *testing.T) {
	var down atomic.Bool
	var there sessions
	p := startPair(t, fakepg.Hooks{Accept: func(net.Conn) error {
		if down.Load() {
			return io.EOF
		}
		return nil
	}}, fakepg.Hooks{Session: there.serve, Cancel: there.cancel})
	before := runtime.NumGoroutine()
	c := p.connector(t)
	c.SetRetirement(2 * time.Second)
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	hold(t, pool, 3)
	down.Store(true)
	conn, err := c.Connect(t.Context()) // has the endpoint rest and its connections closed
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, pool.Ping(t.Context()))
	expire(t, pool) // at the peer, which is probed and sent a cancel request
	down.Store(false)
	require.Eventually(t, func() bool {
		conn, err := c.Connect(t.Context())
		return err == nil && conn.Close() == nil && c.Endpoints()[0].Cause == "" // retirement begins
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, pool.Ping(t.Context()))
	pool.Close()
	after := before
	for range 3000 {
		if after = runtime.NumGoroutine(); p.here.Open()+p.there.Open() == 0 && after <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	require.Fail(t, "goroutines survive", "%d before, %d after\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
}
