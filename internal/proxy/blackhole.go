package proxy

import (
	"context"
	"net"
	"sync"
)

// lossy is a client's connection whose outgoing packets a black hole keeps until it ends. The
// session behind it continues, as on a server: one that waited could hold locks that others need.
type lossy struct {
	net.Conn
	ctx    context.Context
	faults *Faults

	mu   sync.Mutex
	kept []byte
}

func (l *lossy) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 {
		if !l.faults.get().silent {
			return l.Conn.Write(b)
		}
		go l.deliver()
	}
	l.kept = append(l.kept, b...)
	return len(b), nil
}

// deliver writes what was kept when the black hole has ended.
func (l *lossy) deliver() {
	ended := l.faults.wait(l.ctx, func(set faults) bool { return set.silent })
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended {
		_, _ = l.Conn.Write(l.kept)
	}
	l.kept = nil
}
