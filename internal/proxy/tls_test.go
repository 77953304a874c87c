package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// sendRequest sends a request in cleartext and returns the one-byte reply.
func sendRequest(t *testing.T, conn net.Conn, code uint32) string {
	t.Helper()
	_, err := conn.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code))
	require.NoError(t, err)
	answer := make([]byte, 1)
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	return string(answer)
}

func TestTLSAfterSSLRequest(t *testing.T) {
	c := start(t)
	for name, requests := range map[string][]uint32{
		"SSLRequest":                   {sslRequest},
		"GSSENCRequest and SSLRequest": {gssEncRequest, sslRequest},
	} {
		t.Run(name, func(t *testing.T) {
			raw := dialTCP(t, c.Address())
			for _, code := range requests {
				want := map[uint32]string{sslRequest: "S", gssEncRequest: "N"}[code]
				require.Equal(t, want, sendRequest(t, raw, code))
			}
			conn := tls.Client(raw, &tls.Config{ServerName: c.Endpoint(), RootCAs: roots(c)}) // no ALPN: only direct TLS needs it
			w := wire{t, conn, pgproto3.NewFrontend(conn, conn)}
			w.startup("user", "admin", "database", "postgres")
			w.requirePasswordRequest()
			w.password(signToken(t, c, "admin"))
			w.requireReady()
		})
	}
}

func TestDirectTLSRequiresALPN(t *testing.T) {
	c := start(t)
	w := dialWire(t, c, func(cfg *tls.Config) { cfg.NextProtos = nil })
	w.requireClosed()
	require.Empty(t, requireReason(t, c, `without ALPN "postgresql"`).Message)

	_, err := dialTLS(t, c, func(cfg *tls.Config) { cfg.NextProtos = []string{"http/1.1"} })
	require.ErrorContains(t, err, "no application protocol")
}

func TestTLSVersions(t *testing.T) {
	c := start(t)
	for version, taken := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := dialTLS(t, c, func(cfg *tls.Config) { cfg.MinVersion, cfg.MaxVersion = version, version })
		if !taken {
			require.ErrorContains(t, err, "protocol version not supported")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, version, conn.ConnectionState().Version)
	}
}

func TestTLSSessionsAreResumed(t *testing.T) {
	c := start(t)
	cache := tls.NewLRUClientSessionCache(1)
	for _, resumed := range []bool{false, true, true} {
		w := dialWire(t, c, func(cfg *tls.Config) { cfg.ClientSessionCache = cache })
		w.startup("user", "admin", "database", "postgres")
		w.requirePasswordRequest()
		require.Equal(t, resumed, w.ConnectionState().DidResume)
	}
}

func TestCleartextIsRefused(t *testing.T) {
	c := start(t)
	t.Run("a startup message", func(t *testing.T) {
		conn := dialTCP(t, c.Address())
		_, err := conn.Write(packet(pgproto3.ProtocolVersion30, "user", "admin", "database", "postgres"))
		require.NoError(t, err)
		message, err := pgproto3.NewFrontend(conn, conn).Receive()
		require.NoError(t, err)
		refusal := message.(*pgproto3.ErrorResponse)
		require.Equal(t, "FATAL", refusal.Severity)
		require.Equal(t, "08006", refusal.Code)
		require.Equal(t, "unable to accept connection, ssl is required", refusal.Message)
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
	for name, bytes := range map[string]string{
		"a cancel request":   "\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02",
		"an HTTP request":    "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"a short packet":     "\x00\x00\x00\x07\x04\xd2\x16",
		"a packet too long":  "\x00\x00\x27\x11\x00\x03\x00\x00",
		"TLS after garbage":  "x\x16\x03\x01\x02\x00\x01\x00",
		"TLS that is broken": "\x16\x03\x01\x00\x04abcd",
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialTCP(t, c.Address())
			_, err := conn.Write([]byte(bytes))
			require.NoError(t, err)
			_ = conn.(*net.TCPConn).CloseWrite() // may be closed already
			_, err = io.Copy(io.Discard, conn)   // until EOF, not until the deadline
			if err != nil {
				require.ErrorContains(t, err, "reset by peer")
			}
		})
	}
	require.NoError(t, newPool(t, c).Ping(t.Context()))
}
