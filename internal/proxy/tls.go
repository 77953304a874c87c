package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// alpn is the protocol that direct TLS must negotiate.
const alpn = "postgresql"

// tlsRecord is the first byte of a ClientHello.
const tlsRecord = 0x16

// peekedConn is a connection some bytes of which have been read already.
type peekedConn struct {
	net.Conn
	r io.Reader
}

func (c peekedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// startTLS completes the TLS handshake, either direct or after an SSLRequest.
func (l *listener) startTLS(raw net.Conn) (*tls.Conn, error) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(raw, first); err != nil {
		return nil, err
	}
	conn := peekedConn{raw, io.MultiReader(bytes.NewReader(first), raw)}
	if first[0] == tlsRecord {
		return l.startDirectTLS(conn)
	}
	for {
		packet, err := readStartupPacket(conn)
		if err != nil {
			return nil, err
		}
		switch packet.code {
		case sslRequest:
			if _, err := raw.Write([]byte("S")); err != nil {
				return nil, err
			}
			client := tls.Server(conn, l.tls)
			return client, client.Handshake()
		case gssEncRequest:
			if _, err := raw.Write([]byte("N")); err != nil {
				return nil, err
			}
		case cancelRequest:
			return nil, errors.New("cancel request in cleartext")
		default:
			refusal := Refusal{Code: connectionFailure, Message: "unable to accept connection, ssl is required"}
			refusal.send(raw)
			return nil, errors.New("startup message in cleartext")
		}
	}
}

// startDirectTLS handles a ClientHello that no SSLRequest preceded. Like PostgreSQL 17 it requires
// ALPN, so that clients of other protocols cannot be redirected here.
func (l *listener) startDirectTLS(conn net.Conn) (*tls.Conn, error) {
	client := tls.Server(conn, l.tls)
	if err := client.Handshake(); err != nil {
		return nil, err
	}
	if client.ConnectionState().NegotiatedProtocol != alpn {
		l.refuse(client, &Refusal{Reason: `direct TLS without ALPN "postgresql"`})
		client.Close()
		return nil, errors.New("direct TLS without ALPN")
	}
	return client, nil
}
