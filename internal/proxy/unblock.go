package proxy

import (
	"slices"
	"time"
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
	idle := slices.DeleteFunc(p.allSessions(), func(other *session) bool { return other == s || !other.mayYield() })
	if len(idle) == 0 {
		return
	}
	blockers := p.monitor.blockers(p, s.processID.Load())
	for _, other := range idle {
		if slices.Contains(blockers, other.processID.Load()) {
			other.yieldTo(s)
		}
	}
}

// mayYield reports whether the session has rows that it could yield.
func (s *session) mayYield() bool {
	if !s.busy.TryLock() {
		return false
	}
	defer s.busy.Unlock()
	return s.canYield()
}

// canYield is mayYield for callers that hold s.busy.
func (s *session) canYield() bool {
	return s.tx.savepoint && !s.tx.ddl && !s.tx.yielded && !s.tx.isolated && s.isIdle()
}

// yieldTo rolls the session's transaction back to before its first write, so that another can have
// its rows. A session that is executing a statement is left alone. s.busy of the other must be
// held.
func (s *session) yieldTo(other *session) {
	if !s.busy.TryLock() {
		return
	}
	defer s.busy.Unlock()
	if s.canYield() {
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
	return s.idleLocked()
}

// idleLocked is isIdle for callers that hold s.mu.
func (s *session) idleLocked() bool {
	return s.status == 'T' && len(s.pending) == 0 && !s.closed
}
