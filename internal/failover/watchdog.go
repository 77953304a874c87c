package failover

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

const (
	// silence is how long a connection waits for an answer before its endpoint is probed, which
	// doubles up to maxSilence for as long as the endpoint answers probes.
	silence    = time.Second
	maxSilence = 30 * time.Second

	// probeTimeout is how long an endpoint may take to send the first byte of TLS.
	probeTimeout = 2 * time.Second

	// recheck is how long a connection waits for the result of another's probe before it looks
	// again: a fraction of probeTimeout, so that all connections of a lost endpoint are closed soon
	// after.
	recheck = probeTimeout / 20
)

// Watchdog finds that an endpoint no longer answers, by connections that wait for it: a read from a
// black hole would otherwise last until its context ends, if it has one. The zero value is ready.
type Watchdog struct {
	probing atomic.Bool
	since   atomic.Int64 // when the last probe that had no answer began, in Unix nanoseconds
}

// Probe is how an endpoint is probed: by the beginning of TLS.
type Probe struct {
	Dial   func(context.Context) (net.Conn, error)
	TLS    *tls.Config
	Silent func(began time.Time, err error) // is called when there was no answer
}

// Watch returns conn, which is closed if a read waits and the endpoint does not answer a probe.
func (w *Watchdog) Watch(conn net.Conn, probe Probe) net.Conn {
	c := &watched{Conn: conn, dog: w, probe: probe}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.timer = time.AfterFunc(maxSilence, c.check)
	c.timer.Stop()
	return c
}

// watched is a connection whose endpoint is probed while a read waits.
type watched struct {
	net.Conn
	dog    *Watchdog
	probe  Probe
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer
	began  atomic.Int64 // of the read that waits, in Unix nanoseconds; 0: none does
}

// NetConn returns the connection below, as *tls.Conn does.
func (c *watched) NetConn() net.Conn { return c.Conn }

func (c *watched) Read(b []byte) (int, error) {
	c.began.Store(time.Now().UnixNano())
	c.timer.Reset(silence)
	n, err := c.Conn.Read(b)
	c.began.Store(0)
	c.timer.Stop()
	return n, err
}

func (c *watched) Close() error {
	c.cancel()
	c.timer.Stop()
	return c.Conn.Close()
}

// check closes the connection if the endpoint has not answered a probe since the read began.
func (c *watched) check() {
	began := c.began.Load()
	if began == 0 || c.ctx.Err() != nil {
		return
	}
	again := min(max(silence, time.Since(time.Unix(0, began))), maxSilence)
	switch {
	case c.dog.since.Load() > began:
		_ = c.Close()
		return
	case !c.dog.probing.CompareAndSwap(false, true):
		again = recheck // another connection's probe is in flight
	default:
		start := time.Now()
		err := c.probe.send(c.ctx)
		if err != nil && c.ctx.Err() == nil {
			c.dog.since.Store(start.UnixNano())
			c.probe.Silent(start, err)
		}
		c.dog.probing.Store(false)
		if err != nil {
			again = 0
		}
	}
	if c.began.Load() == began { // the read still waits
		c.timer.Reset(again)
	}
}

// send returns an error if the endpoint sends nothing when TLS begins.
func (p Probe) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := p.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	heard := &hearing{Conn: conn}
	err = tls.Client(heard, p.TLS).HandshakeContext(ctx)
	if heard.anything.Load() {
		return nil
	}
	return errors.Join(errors.New("a probe was not answered"), err)
}

// hearing notes whether anything was read.
type hearing struct {
	net.Conn
	anything atomic.Bool
}

func (h *hearing) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if n > 0 {
		h.anything.Store(true)
	}
	return n, err
}
