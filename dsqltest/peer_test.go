package dsqltest

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

func TestPeerIsAnotherEndpointOfTheSameData(t *testing.T) {
	c := Start(t, WithPeer("us-east-2"))
	peer := c.Peer()
	require.Same(t, c, peer.Peer())
	require.Equal(t, "us-east-2", peer.Region())
	require.NotEqual(t, c.Endpoint()[:26], peer.Endpoint()[:26])
	require.Nil(t, Start(t).Peer())

	here, there := connect(t, c), connect(t, peer)
	apply(t, here, "CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 0)")
	_, err := there.Exec(t.Context(), "BEGIN; SELECT FROM t; UPDATE t SET n = 1; COMMIT")
	require.Equal(t, occ.SchemaConflict, occ.ConflictKind(err), "a schema change is seen at both: %v", err)
	apply(t, there, "ROLLBACK", "BEGIN", "UPDATE t SET n = n + 1")
	apply(t, here, "BEGIN", "UPDATE t SET n = n + 10")
	committed := 0
	if _, err := there.Exec(t.Context(), "COMMIT"); err == nil {
		committed++
	}
	if _, err := here.Exec(t.Context(), "COMMIT"); err == nil {
		committed++
	}
	require.Equal(t, 1, committed, "two writers of a row at two endpoints conflict")
}

func TestPeersOptionsOpenEither(t *testing.T) {
	c := Start(t, WithPeer("us-west-2"))
	for _, endpoint := range []*Cluster{c, c.Peer()} {
		for _, options := range [][]dsql.Option{c.Options(), c.Peer().Options()} {
			conn, err := dsql.Connect(t.Context(), endpoint.Endpoint(), endpoint.Region(), options...)
			require.NoError(t, err)
			require.NoError(t, conn.Close(t.Context()))
		}
	}
	_, err := dsql.Connect(t.Context(), c.Endpoint(), "us-west-2", c.Options()...)
	require.Error(t, err)
}

func TestFaultsBelongToOneEndpoint(t *testing.T) {
	c := Start(t, WithPeer("us-east-2"))
	peer := newPool(t, c.Peer())
	var silence net.Error
	for name, tt := range map[string]struct {
		begin func()
		check func(t *testing.T, session, connect error)
	}{
		"cut": {c.Cut, func(t *testing.T, session, connect error) {
			require.Error(t, session)
			require.ErrorIs(t, connect, syscall.ECONNRESET)
		}},
		"black hole": {c.BlackHole, func(t *testing.T, session, connect error) {
			require.ErrorIs(t, session, context.DeadlineExceeded)
			require.True(t, errors.As(connect, &silence) && silence.Timeout(), connect)
		}},
		"slow": {func() { c.SetLatency(2 * time.Second) }, func(t *testing.T, session, connect error) {
			require.ErrorIs(t, session, context.DeadlineExceeded)
			require.True(t, errors.As(connect, &silence) && silence.Timeout(), connect)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				conn := connect(t, c)
				tt.begin()
				short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				_, session := conn.Exec(short, "SELECT 1")
				cancel()
				short, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
				_, err := dsql.Connect(short, c.Endpoint(), "", c.Options()...)
				cancel()
				tt.check(t, session, err)
				require.NoError(t, peer.Ping(t.Context()), "the peer is unaffected")
				c.Restore()
				require.NoError(t, newPool(t, c).Ping(t.Context()))
			}
		})
	}
	require.Equal(t, 1, c.Peer().Stats().Connects)
}

func TestBlackHoleAnswersNotEvenTLS(t *testing.T) {
	c := Start(t)
	c.BlackHole()
	raw, err := net.Dial("tcp", c.Address())
	require.NoError(t, err)
	defer raw.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := dsql.Connect(context.Background(), c.Endpoint(), "", append(c.Options(),
			dsql.WithDialFunc(func(context.Context, string, string) (net.Conn, error) { return raw, nil }))...)
		if err == nil {
			err = conn.Close(context.Background())
		}
		done <- err
	}()
	select {
	case err := <-done:
		require.Fail(t, "it was answered", "%v", err)
	case <-time.After(100 * time.Millisecond):
	}
	c.Restore()
	require.NoError(t, <-done, "nothing was lost")
}

func TestCloseWithABlackHole(t *testing.T) {
	c, err := Run(t.Context(), WithPeer("us-east-2"))
	require.NoError(t, err)
	c.BlackHole()
	done := make(chan error, 1)
	go func() {
		_, err := dsql.Connect(context.Background(), c.Endpoint(), "", c.Options()...)
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, c.Peer().Close())
	require.Error(t, <-done)
	require.NoError(t, c.Close())
}

func TestFaultsAtCommitQueueAndAreCleared(t *testing.T) {
	c := Start(t)
	pool := newPool(t, c)
	outcome := func() string {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		switch err := tx.Commit(t.Context()); {
		case err == nil:
			return "committed"
		case occ.IsConflict(err):
			return string(occ.ConflictKind(err))
		default:
			return "cut"
		}
	}
	c.CutAtCommit(BeforeApplied)
	c.ConflictNext(1)
	c.CutAtCommit(AfterApplied)
	c.CutAtCommit(AfterApplied)
	c.SchemaConflictNext(2)
	for i, want := range []string{"cut", "OC000", "cut", "cut", "OC001"} {
		require.Equal(t, want, outcome(), i)
	}
	c.Restore()
	require.Equal(t, "committed", outcome())
}
