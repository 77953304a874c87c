package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// handshakeTimeout closes a connection whose session has not started.
const handshakeTimeout = 30 * time.Second

// anyPort is the default address to listen on.
const anyPort = "127.0.0.1:0"

// listener accepts the connections of all clusters of the process that listen on one address. It
// exists while there are such clusters.
type listener struct {
	address   string // as requested
	net       net.Listener
	authority *authority
	tls       *tls.Config // shared by all connections: session tickets are bound to it
	timeout   time.Duration

	ctx    context.Context // done when the listener closes; cuts handshakes
	cancel context.CancelFunc
	conns  sync.WaitGroup // acceptLoop and all connections

	mu      sync.Mutex
	proxies map[string]*Proxy // by cluster ID
}

// shared are the process's listeners, by the address requested.
var shared = struct {
	mu        sync.Mutex
	listeners map[string]*listener
}{listeners: make(map[string]*listener)}

// attach registers p with the listener of its address and starts the listener for the first proxy.
func attach(p *Proxy) error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	address := cmp.Or(p.cfg.Listen, anyPort)
	l := shared.listeners[address]
	if l == nil {
		var err error
		if l, err = p.cfg.listen(address); err != nil {
			return err
		}
		shared.listeners[address] = l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := l.proxies[p.cfg.ID]; taken {
		return fmt.Errorf("dsqltest: a cluster with the ID %s already runs in this process: use another ID", p.cfg.ID)
	}
	l.proxies[p.cfg.ID] = p
	p.listener = l
	return nil
}

// detach removes p from its listener and closes the listener after the last proxy.
func detach(p *Proxy) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	p.listener.mu.Lock()
	delete(p.listener.proxies, p.cfg.ID)
	last := len(p.listener.proxies) == 0
	p.listener.mu.Unlock()
	if last {
		p.listener.close()
		delete(shared.listeners, p.listener.address)
	}
}

func (c Config) listen(address string) (*listener, error) {
	authority, err := processAuthority()
	if c.Authority != nil {
		authority, err = parseAuthority(c.Authority)
	}
	if err != nil {
		return nil, err
	}
	return listen(address, handshakeTimeout, authority)
}

func listen(address string, timeout time.Duration, authority *authority) (*listener, error) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dsqltest: %w", err)
	}
	l := &listener{
		address:   address,
		net:       socket,
		authority: authority,
		tls: &tls.Config{
			GetCertificate: authority.getCertificate,
			MinVersion:     tls.VersionTLS12,
			NextProtos:     []string{alpn},
		},
		timeout: timeout,
		proxies: make(map[string]*Proxy),
	}
	l.tls.GetConfigForClient = l.admit
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.conns.Go(l.acceptLoop)
	return l, nil
}

func (l *listener) close() {
	l.cancel()
	l.net.Close()
	l.conns.Wait()
}

func (l *listener) acceptLoop() {
	for {
		conn, err := l.net.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // for instance too many open files, which may pass
			time.Sleep(10 * time.Millisecond)
			continue
		}
		l.conns.Go(func() { l.serve(conn) })
	}
}

// serve handles one connection from its first byte to its end.
func (l *listener) serve(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(l.ctx, func() { conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(l.timeout))

	client, err := l.startTLS(conn)
	if err != nil {
		return
	}
	defer client.Close()
	packet, err := readStartupPacket(client)
	if err != nil {
		return
	}
	l.handleStartup(client, packet)
}
