package proxy

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNothingIsLeftWhenTheLastClusterIsClosed(t *testing.T) {
	start(t).Close() // PostgreSQL stays with the process
	before := runtime.NumGoroutine()

	t.Run("clients", func(t *testing.T) { // which are closed at its end
		first, second := start(t), start(t)
		require.Equal(t, first.Address(), second.Address())
		for _, c := range []*cluster{first, second} {
			conn, err := login(t, pgConfig(t, c, "admin", signToken(t, c, "admin")))
			require.NoError(t, err)
			sleeping(t, c, conn)
		}
		_, err := net.Dial("tcp", first.Address()) // sends nothing
		require.NoError(t, err)

		first.Close()
		require.NoError(t, newPool(t, second).Ping(t.Context()))
		address := second.Address()
		second.Close()

		_, err = net.Dial("tcp", address)
		require.ErrorContains(t, err, "refused")
	})
	require.Nil(t, shared.listener)
	// require.Eventually uses one more.
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, time.Minute, 5*time.Millisecond)
}
