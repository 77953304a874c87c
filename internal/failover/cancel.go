package failover

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// CancelTimeout bounds a cancel request. pgx sends one for each statement that its context has
// ended, and keeps the connection's place in the pool until it is answered, or 15 seconds.
const CancelTimeout = 2 * time.Second

// DialCancel dials for a cancel request and calls silent, once, if the server does not answer it.
func DialCancel(ctx context.Context, dial func(context.Context) (net.Conn, error), silent func(error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, CancelTimeout)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		if ctx.Err() != context.Canceled {
			silent(err)
		}
		return nil, err
	}
	deadline := time.Now().Add(CancelTimeout)
	_ = conn.SetDeadline(deadline)
	return &cancelConn{Conn: conn, deadline: deadline, silent: silent}, nil
}

// cancelConn is the connection of a cancel request. Its server is there if it sends anything, which
// in TLS it does at once.
type cancelConn struct {
	net.Conn
	deadline time.Time
	once     sync.Once // the first read decides
	silent   func(error)
}

func (c *cancelConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.once.Do(func() {
		endedHere := errors.Is(err, net.ErrClosed) || pgconn.Timeout(err) && time.Now().Before(c.deadline)
		if n == 0 && err != nil && !endedHere {
			c.silent(err)
		}
	})
	return n, err
}
