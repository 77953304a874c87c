//go:build linux || darwin || freebsd || netbsd || openbsd

package pgtx

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestArrived(t *testing.T) {
	server, client := socketPair(t)
	s := newSocket(client)
	require.Equal(t, nothing, s.arrived())

	_, err := server.Write([]byte{1})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.arrived() == data }, 5*time.Second, time.Millisecond)
	var b [1]byte
	_, err = client.Read(b[:])
	require.NoError(t, err)
	require.EqualValues(t, 1, b[0], "the look has read nothing")
	require.Equal(t, nothing, s.arrived())
	require.Zero(t, testing.AllocsPerRun(10, func() { s.arrived() }))

	require.NoError(t, server.Close())
	require.Eventually(t, func() bool { return s.arrived() == end }, 5*time.Second, time.Millisecond)
	require.NoError(t, client.Close())
	require.Equal(t, end, s.arrived())
	require.Equal(t, nothing, newSocket(pipe{}).arrived(), "a connection without a socket")
}

type pipe struct{ net.Conn }

// BenchmarkArrived is what the look before each COMMIT costs.
func BenchmarkArrived(b *testing.B) {
	_, client := socketPair(b)
	s := newSocket(client)
	b.ReportAllocs()
	for b.Loop() {
		s.arrived()
	}
}

func socketPair(tb testing.TB) (server, client net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(tb, err)
	server, err = l.Accept()
	require.NoError(tb, err)
	tb.Cleanup(func() { client.Close(); server.Close() })
	return server, client
}
