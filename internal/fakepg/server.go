// Package fakepg is a PostgreSQL server for tests that does what the test
// tells it: it notes how each client connects, and refuses, hangs or cuts
// where told. It is for what a real PostgreSQL cannot do.
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
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Hooks are the steps of a connection, in order. A nil hook does nothing. A
// hook that returns a *pgconn.PgError has it sent to the client as FATAL; any
// error ends the connection.
type Hooks struct {
	TLS      *tls.Config           // the server's side; nil: no TLS, sessions in clear
	Accept   func(net.Conn) error  // before a byte is read
	Startup  func(*Conn) error     // after the startup message, before the password is asked for
	Password func(*Conn) error     // after the password
	Session  func(*Conn) error     // from ReadyForQuery on; nil: every query is answered as empty
	Cancel   func(pid, key uint32) // a cancel request came
}

// Conn is one client's connection as the server saw it.
type Conn struct {
	net.Conn                               // carries the session: the TLS connection, or TCP
	*pgproto3.Backend                      // speaks on Conn
	First             []byte               // the first eight bytes
	Direct            bool                 // TLS began without an SSLRequest
	TLS               *tls.ConnectionState // nil in clear
	Parameters        map[string]string    // of the startup message, user and database too
	Password          string
}

// Server is a running scripted server.
type Server struct {
	Addr  string // host:port on loopback
	hooks Hooks

	listener net.Listener
	wait     sync.WaitGroup

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
	s.wait.Go(s.accept)
	tb.Cleanup(s.close)
	return s
}

// Accepted is how many TCP connections have been accepted.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Conns are the connections that have sent a startup message, in that order.
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
	s.wait.Wait()
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.accepted++
		s.open[c] = struct{}{}
		s.mu.Unlock()
		s.wait.Go(func() {
			defer s.forget(c)
			_ = s.serve(c)
		})
	}
}

func (s *Server) forget(c net.Conn) {
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
	c, err := s.secure(raw)
	if err != nil {
		return err
	}
	c.Backend = pgproto3.NewBackend(c.Conn, c.Conn)
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
	return c.answerEmpty()
}

// peeked is a connection whose first bytes have been looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

const sslRequest = 80877103

func (s *Server) secure(raw net.Conn) (*Conn, error) {
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
	c.Password = password.Password
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

func (c *Conn) answerEmpty() error {
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
