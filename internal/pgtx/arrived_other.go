//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package pgtx

import "net"

// socket finds nothing where a socket cannot be looked at without waiting.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) arrived() int { return nothing }
