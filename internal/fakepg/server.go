// Package fakepg is a scripted PostgreSQL server for tests: it records how each client connects,
// and refuses, hangs or cuts connections where the test says so. It is for behavior that a real
// PostgreSQL cannot show.
package fakepg

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Hooks are called at the steps of a connection, in this order. A nil hook does nothing. If a hook
// returns a *pgconn.PgError, it is sent to the client as FATAL; any error ends the connection.
type Hooks struct {
	TLS      *tls.Config           // the server's configuration; nil: sessions in cleartext
	Accept   func(net.Conn) error  // before a byte is read
	Startup  func(*Conn) error     // after the startup message, before the password request
	Password func(*Conn) error     // after the password
	Session  func(*Conn) error     // from ReadyForQuery on; nil: every query is treated as empty
	Cancel   func(pid, key uint32) // on a cancel request

	Latency time.Duration // of each round trip after the startup message
}

// Conn is a client's connection as the server sees it.
type Conn struct {
	net.Conn                               // the TLS connection, or TCP
	*pgproto3.Backend                      // on Conn, while it is served
	First             []byte               // the first eight bytes
	Direct            bool                 // direct TLS: no SSLRequest was sent
	TLS               *tls.ConnectionState // nil in cleartext
	Parameters        map[string]string    // of the startup message, user and database too
	Password          string

	trips *trips
}

// trips counts the round trips of a connection: each time that something is read after an answer.
type trips struct {
	net.Conn
	latency  time.Duration
	answered atomic.Bool
	n        atomic.Int64
}

func (t *trips) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if n > 0 && t.answered.Swap(false) {
		t.n.Add(1)
		time.Sleep(t.latency)
	}
	return n, err
}

func (t *trips) Write(b []byte) (int, error) {
	t.answered.Store(true)
	return t.Conn.Write(b)
}

// Server is a running scripted server.
type Server struct {
	Addr  string // host:port on loopback
	hooks Hooks

	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	accepted int
	conns    []*Conn
	open     map[net.Conn]struct{}
}

// Start runs a server until the test ends.
func Start(tb testing.TB, hooks Hooks) *Server {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{
		Addr:     listener.Addr().String(),
		hooks:    hooks,
		listener: listener,
		open:     make(map[net.Conn]struct{}),
	}
	s.running.Go(s.acceptLoop)
	tb.Cleanup(s.close)
	return s
}

// Accepted returns the number of TCP connections accepted.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Trips returns the number of round trips of all connections, after their startup messages.
func (s *Server) Trips() int {
	n := 0
	for _, c := range s.Conns() {
		n += int(c.trips.n.Load())
	}
	return n
}

// Open returns the number of TCP connections that are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// maxConns is how many connections a server remembers at most: the soak makes a million.
const maxConns = 20_000

// Conns returns the last connections that have sent a startup message, in that order.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.conns...)
}

func (s *Server) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Server) acceptLoop() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.accepted++
		s.open[c] = struct{}{}
		s.mu.Unlock()
		s.running.Go(func() {
			defer s.closeConn(c)
			_ = s.serve(c)
		})
	}
}

func (s *Server) closeConn(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *Server) serve(raw net.Conn) error {
	if s.hooks.Accept != nil {
		if err := s.hooks.Accept(raw); err != nil {
			return err
		}
	}
	c, err := s.startTLS(raw)
	if err != nil {
		return err
	}
	c.trips = &trips{Conn: c.Conn, latency: s.hooks.Latency}
	c.Conn = c.trips
	c.Backend = pgproto3.NewBackend(c.Conn, c.Conn)
	defer func() { c.Backend = nil }() // its buffers, as Conns keeps c
	if err := s.authenticate(c); err != nil {
		var refusal *pgconn.PgError
		if errors.As(err, &refusal) {
			c.Fatal(refusal)
		}
		return err
	}
	if s.hooks.Session != nil {
		return s.hooks.Session(c)
	}
	return c.serveEmpty()
}

// peeked is a connection whose first bytes have been peeked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

const sslRequest = 80877103

func (s *Server) startTLS(raw net.Conn) (*Conn, error) {
	p := peeked{raw, bufio.NewReader(raw)}
	first, err := p.r.Peek(8)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: p, First: append([]byte(nil), first...), Direct: first[0] == 0x16}
	if s.hooks.TLS == nil {
		return c, nil
	}
	if !c.Direct {
		if binary.BigEndian.Uint32(first[4:]) != sslRequest {
			return nil, errors.New("neither TLS nor an SSLRequest")
		}
		if _, err := p.r.Discard(8); err != nil {
			return nil, err
		}
		if _, err := raw.Write([]byte{'S'}); err != nil {
			return nil, err
		}
	}
	conn := tls.Server(p, s.hooks.TLS)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	c.Conn, c.TLS = conn, &state
	return c, nil
}

func (s *Server) authenticate(c *Conn) error {
	msg, err := c.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	switch msg := msg.(type) {
	case *pgproto3.CancelRequest:
		if s.hooks.Cancel != nil {
			s.hooks.Cancel(msg.ProcessID, binary.BigEndian.Uint32(msg.SecretKey))
		}
		return io.EOF
	case *pgproto3.StartupMessage:
		c.Parameters = msg.Parameters
	default:
		return fmt.Errorf("unexpected %T", msg)
	}
	s.mu.Lock()
	if len(s.conns) == maxConns {
		s.conns = append([]*Conn(nil), s.conns[maxConns/2:]...)
	}
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	if s.hooks.Startup != nil {
		if err := s.hooks.Startup(c); err != nil {
			return err
		}
	}

	c.Send(&pgproto3.AuthenticationCleartextPassword{})
	if err := c.Flush(); err != nil {
		return err
	}
	if err := c.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
		return err
	}
	answer, err := c.Receive()
	if err != nil {
		return err
	}
	password, ok := answer.(*pgproto3.PasswordMessage)
	if !ok {
		return fmt.Errorf("unexpected %T", answer)
	}
	s.mu.Lock() // Conns reads it
	c.Password = password.Password
	s.mu.Unlock()
	if s.hooks.Password != nil {
		if err := s.hooks.Password(c); err != nil {
			return err
		}
	}

	c.Send(&pgproto3.AuthenticationOk{})
	c.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	c.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	c.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 2}})
	c.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return c.Flush()
}

// Fatal sends err with severity FATAL.
func (c *Conn) Fatal(err *pgconn.PgError) {
	c.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: err.Code, Message: err.Message, Hint: err.Hint})
	_ = c.Flush()
}

func (c *Conn) serveEmpty() error {
	for {
		msg, err := c.Receive()
		if err != nil {
			return err
		}
		switch msg.(type) {
		case *pgproto3.Query:
			c.Send(&pgproto3.EmptyQueryResponse{})
			c.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Terminate:
			return nil
		default:
			continue
		}
		if err := c.Flush(); err != nil {
			return err
		}
	}
}
