//go:build linux || darwin || freebsd || netbsd || openbsd

package pgtx

import (
	"net"
	"syscall"
)

// arrived looks at what has arrived on conn, without reading it or waiting for it.
func arrived(conn net.Conn) int {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn }) // *tls.Conn, and wrappers alike
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nothing
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nothing
	}
	found := nothing
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		switch n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT); {
		case err == syscall.EAGAIN || err == syscall.EINTR:
		case err != nil || n == 0:
			found = end
		default:
			found = data
		}
	})
	if err != nil {
		return end // closed here
	}
	return found
}
