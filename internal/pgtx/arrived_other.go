//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package pgtx

import "net"

// arrived finds nothing where a socket cannot be looked at without waiting.
func arrived(net.Conn) int { return nothing }
