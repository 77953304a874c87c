package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

func TestListenerClosesWithTheLastProxy(t *testing.T) {
	start(t).Close() // PostgreSQL stays with the process
	before := runtime.NumGoroutine()

	t.Run("clients", func(t *testing.T) { // which are closed at its end
		first, second := start(t), start(t)
		require.Equal(t, first.Address(), second.Address())
		var sleeping []<-chan error
		for _, c := range []*cluster{first, second} {
			conn, err := login(t, pgConfig(t, c, "admin", signToken(t, c, "admin")))
			require.NoError(t, err)
			sleeping = append(sleeping, execSleep(t, c, conn))
		}
		_, err := net.Dial("tcp", first.Address()) // sends nothing
		require.NoError(t, err)

		first.Close()
		require.NoError(t, newPool(t, second).Ping(t.Context()))
		address := second.Address()
		second.Close()
		for _, done := range sleeping {
			require.Error(t, <-done)
		}

		_, err = net.Dial("tcp", address)
		require.ErrorContains(t, err, "refused")
	})
	require.Empty(t, shared.listeners)
	// require.Eventually uses one more.
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, time.Minute, 5*time.Millisecond)
}

func TestHandshakeTimeout(t *testing.T) {
	c := start(t)
	authority, err := processAuthority()
	require.NoError(t, err)
	impatient, err := listen(anyPort, time.Second, authority)
	require.NoError(t, err)
	t.Cleanup(impatient.close)
	impatient.mu.Lock()
	impatient.proxies[c.cfg.ID] = c.Proxy
	impatient.mu.Unlock()

	steps := map[string]func(net.Conn){
		"nothing":      func(net.Conn) {},
		"SSLRequest":   func(raw net.Conn) { require.Equal(t, "S", sendRequest(t, raw, sslRequest)) },
		"half a hello": func(raw net.Conn) { raw.Write([]byte{tlsRecord, 3, 1}) },
		"TLS": func(raw net.Conn) {
			require.NoError(t, tls.Client(raw, &tls.Config{ServerName: c.Endpoint(), RootCAs: roots(c), NextProtos: []string{alpn}}).Handshake())
		},
		"startup message": func(raw net.Conn) {
			conn := tls.Client(raw, &tls.Config{ServerName: c.Endpoint(), RootCAs: roots(c), NextProtos: []string{alpn}})
			w := wire{t, conn, pgproto3.NewFrontend(conn, conn)}
			w.startup("user", "admin", "database", "postgres")
			w.requirePasswordRequest()
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := dialTCP(t, impatient.net.Addr().String())
			step(raw)
			_, err := io.Copy(io.Discard, raw)
			if err != nil {
				require.ErrorContains(t, err, "reset by peer")
			}
		})
	}
}
