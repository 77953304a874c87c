package dsqltest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// handshakeTimeout ends a connection that has not come to its session.
const handshakeTimeout = 30 * time.Second

const alpn = "postgresql"

// listener is the one door to all clusters of the process. It is there while
// there are clusters.
type listener struct {
	net     net.Listener
	tls     *tls.Config // one for all connections: session tickets are bound to it
	timeout time.Duration

	ctx    context.Context // ends with the listener, and cuts handshakes
	cancel context.CancelFunc
	wait   sync.WaitGroup // accepting, and all connections

	mu       sync.Mutex
	clusters map[string]*Cluster // by ID
}

// shared is the listener of this process, nil without clusters.
var shared struct {
	mu       sync.Mutex
	listener *listener
}

// join puts c behind the listener, which it starts if c is the first.
func join(c *Cluster) error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.listener == nil {
		l, err := listen(c.authority, handshakeTimeout)
		if err != nil {
			return err
		}
		shared.listener = l
	}
	c.listener = shared.listener
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.clusters[c.id] = c
	return nil
}

// leave takes c away, and stops the listener if c was the last.
func leave(c *Cluster) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	c.listener.mu.Lock()
	delete(c.listener.clusters, c.id)
	last := len(c.listener.clusters) == 0
	c.listener.mu.Unlock()
	if last {
		c.listener.close()
		shared.listener = nil
	}
}

func listen(a *authority, timeout time.Duration) (*listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("dsqltest: listening on the loopback: %w", err)
	}
	front := &listener{
		net:      l,
		tls:      &tls.Config{GetCertificate: a.forHello, MinVersion: tls.VersionTLS12, NextProtos: []string{alpn}},
		timeout:  timeout,
		clusters: make(map[string]*Cluster),
	}
	front.ctx, front.cancel = context.WithCancel(context.Background())
	front.wait.Go(front.accept)
	return front, nil
}

func (l *listener) close() {
	l.cancel()
	l.net.Close()
	l.wait.Wait()
}

func (l *listener) accept() {
	for {
		raw, err := l.net.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files: later ones may do better
			time.Sleep(10 * time.Millisecond)
			continue
		}
		l.wait.Go(func() { l.serve(raw) })
	}
}

// serve carries one connection from its first byte to its end.
func (l *listener) serve(raw net.Conn) {
	defer raw.Close()
	defer context.AfterFunc(l.ctx, func() { raw.Close() })()
	_ = raw.SetDeadline(time.Now().Add(l.timeout))

	client, err := l.secure(raw)
	if err != nil {
		return
	}
	defer client.Close()
	packet, err := readStartupPacket(client)
	if err != nil {
		return
	}
	l.open(client, packet)
}
