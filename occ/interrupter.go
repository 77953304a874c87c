package occ

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// interrupter ends a statement that a callback has in flight, whatever context the callback gave to
// it. stop must be called when the callback has returned, or panicked.
type interrupter struct {
	pg      *pgconn.PgConn // nil: a driver that is not pgx
	stopCtx func() bool    // may be nil
	timer   *time.Timer    // may be nil

	mu                   sync.Mutex
	stopped, interrupted bool
}

// interruptible calls fn and ends a statement that it has in flight at the end of WithMaxElapsed, or
// a grace after ctx has ended.
func (r *run) interruptible(ctx context.Context, pg *pgconn.PgConn, fn func() error) error {
	var i interrupter
	i.start(r, pg)
	i.after(ctx)
	defer i.stop()
	return fn()
}

// start arms the timer of WithMaxElapsed.
func (i *interrupter) start(r *run, pg *pgconn.PgConn) {
	i.pg = pg
	if pg != nil && r.interrupts {
		i.timer = time.AfterFunc(r.left(), i.interrupt)
	}
}

// after interrupts a grace after ctx has ended.
func (i *interrupter) after(ctx context.Context) {
	if i.pg != nil && i.stopCtx == nil && ctx.Done() != nil {
		i.stopCtx = context.AfterFunc(ctx, func() { time.AfterFunc(grace, i.interrupt) })
	}
}

func (i *interrupter) interrupt() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.stopped {
		i.interrupted = true
		_ = i.pg.Conn().SetDeadline(time.Unix(1, 0))
	}
}

func (i *interrupter) stop() {
	if i.stopCtx != nil {
		i.stopCtx()
	}
	if i.timer != nil {
		i.timer.Stop()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.interrupted && !i.stopped && !i.pg.IsClosed() {
		_ = i.pg.Conn().SetDeadline(time.Time{})
	}
	i.stopped = true
}
