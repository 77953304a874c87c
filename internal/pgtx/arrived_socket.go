//go:build linux || darwin || freebsd || netbsd || openbsd

package pgtx

import (
	"net"
	"syscall"
)

// socket looks at what has arrived on a connection. It is kept with the connection, so that a look
// allocates nothing.
type socket struct {
	raw   syscall.RawConn // nil: the connection has no socket
	look  func(fd uintptr)
	found int
	b     [1]byte
}

func newSocket(conn net.Conn) *socket {
	s := &socket{}
	s.look = s.peek
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn }) // *tls.Conn, and wrappers alike
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	if c, ok := conn.(syscall.Conn); ok {
		s.raw, _ = c.SyscallConn()
	}
	return s
}

// arrived looks at what has arrived, without reading it or waiting for it.
func (s *socket) arrived() int {
	if s.raw == nil {
		return nothing
	}
	if s.raw.Control(s.look) != nil {
		return end // closed here
	}
	return s.found
}

func (s *socket) peek(fd uintptr) {
	switch n, _, err := syscall.Recvfrom(int(fd), s.b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT); {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		s.found = nothing
	case err != nil || n == 0:
		s.found = end
	default:
		s.found = data
	}
}
