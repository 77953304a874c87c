package proxy

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// lockTimeout bounds how long PostgreSQL waits for a lock. Idle transactions yield before; a
// statement that waits longer waits for one that is being executed.
const lockTimeout = "100ms"

// patience is how long a statement may take before the proxy looks whether it waits for a lock. It
// doubles each time, up to maxPatience.
const (
	patience    = 2 * time.Millisecond
	maxPatience = 32 * time.Millisecond
)

// await is waitFor for a statement that may have to wait for a lock.
func (s *session) await(x *exchange) {
	_ = s.server.w.Flush()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for next := 2 * patience; ; next = min(2*next, maxPatience) {
		select {
		case <-x.done:
			return
		case <-timer.C:
			s.proxy.unblock(s)
			timer.Reset(next)
		}
	}
}

// unblock has the idle transactions yield that a session waits for.
func (p *Proxy) unblock(s *session) {
	blockers := p.monitor.blockers(p, s.processID.Load())
	if len(blockers) == 0 {
		return
	}
	for _, other := range p.allSessions() {
		if other != s && slices.Contains(blockers, other.processID.Load()) {
			other.yieldTo(s)
		}
	}
}

// yieldTo rolls the session's transaction back to before its first write, so that another can have
// its rows. A session that is executing a statement is left alone. s.busy of the other must be
// held.
func (s *session) yieldTo(other *session) {
	if !s.busy.TryLock() {
		return
	}
	defer s.busy.Unlock()
	if s.isIdle() && s.tx.savepoint && !s.tx.ddl && !s.tx.yielded && !s.tx.isolated {
		s.rollbackToSavepoint()
		s.tx.yielded = true
		compete(&s.tx, &other.tx)
	}
}

// isIdle reports whether the session is in a transaction that is executing no statement.
func (s *session) isIdle() bool {
	if !s.mu.TryLock() { // perhaps held while a client does not read
		return false
	}
	defer s.mu.Unlock()
	return s.status == 'T' && len(s.pending) == 0 && !s.closed
}

// monitor asks PostgreSQL which session waits for which, over a connection that it opens when it is
// first needed.
type monitor struct {
	mu   sync.Mutex
	conn *pgx.Conn
}

// blockers returns the process IDs of PostgreSQL's that a session waits for.
func (m *monitor) blockers(p *Proxy, pid uint32) (blockers []uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil || m.conn.IsClosed() {
		conn, err := p.cfg.Server.Connect(p.ctx, p.cfg.Database)
		if err != nil {
			return nil
		}
		m.conn = conn
	}
	_ = m.conn.QueryRow(p.ctx, "SELECT pg_blocking_pids($1)", pid).Scan(&blockers)
	return blockers
}

func (m *monitor) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close(context.Background())
	}
}
