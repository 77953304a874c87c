package dsqltest

import (
	"errors"

	"github.com/jackc/pgx/v5/pgproto3"
)

// listen reads the client until it ends.
func (v *conversation) listen() {
	for {
		m, err := v.client.read(maxMessage)
		if tooLong := (errTooLong{}); errors.As(err, &tooLong) {
			v.say(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: protocolViolation, Message: "invalid message length"})
			v.cut()
			return
		}
		if err != nil || !v.cluster.faults.pass(v.cluster.ctx) {
			return
		}
		v.hear(m)
		if v.client.r.Buffered() == 0 && v.engine.w.Flush() != nil {
			return
		}
	}
}

// hear does what one message of the client asks for.
func (v *conversation) hear(m message) {
	switch m.kind() {
	case 'Q':
		v.query(m)
	case 'P', 'B', 'D', 'E', 'C', 'H', 'S':
		v.extended(m)
	default: // rows of COPY, the end, function calls
		_, _ = v.engine.w.Write(m)
	}
}

// query carries out a Query message.
func (v *conversation) query(m message) {
	v.cluster.faults.roundTrip(v.cluster.ctx)
	what := controlOf(m.text())
	if what != none {
		v.settle()
	}
	if what == commit && v.inTransaction() {
		v.commit(m.text())
		v.ready()
		return
	}
	v.count(what)
	v.push(&exchange{})
	_, _ = v.engine.w.Write(m)
}

// extended carries out one message of the extended query protocol.
func (v *conversation) extended(m message) {
	if m.kind() == 'S' {
		v.sync(m)
		return
	}
	if v.skipping {
		return
	}
	switch m.kind() {
	case 'P':
		name, rest := cutText(m.body())
		sql, _ := cutText(rest)
		v.statements[name] = controlOf(sql)
	case 'B':
		name, rest := cutText(m.body())
		statement, _ := cutText(rest)
		v.portals[name] = v.statements[statement]
	case 'E':
		name, _ := cutText(m.body())
		if v.execute(v.portals[name]) {
			return
		}
	}
	if v.batch == nil {
		v.batch = v.push(&exchange{})
	}
	_, _ = v.engine.w.Write(m)
}

// execute carries out a portal that commits, and leaves all others to the engine:
// then it is false.
func (v *conversation) execute(what control) bool {
	if what != commit || !v.inTransaction() {
		v.count(what)
		return false
	}
	v.skipping = !v.drain() || !v.commit("COMMIT")
	return true
}

// sync ends a batch.
func (v *conversation) sync(m message) {
	v.cluster.faults.roundTrip(v.cluster.ctx)
	v.skipping = false
	if v.batch == nil {
		v.push(&exchange{})
	}
	v.batch = nil
	_, _ = v.engine.w.Write(m)
}

// drain has the engine answer all that it was sent, without ending the client's
// batch: inside a transaction a Sync does no more. It is false if the batch has
// failed, so that nothing more of it is carried out.
func (v *conversation) drain() bool {
	x := v.batch
	if x == nil {
		v.settle()
		return true
	}
	v.batch = nil
	v.mu.Lock()
	x.take = func(m message) bool { return m.kind() == 'Z' }
	v.mu.Unlock()
	v.engine.send(&pgproto3.Sync{})
	_ = v.engine.w.Flush()
	<-x.done
	return !x.failed
}

// commit ends the transaction that the session is in. It is false if the client was
// told an error, or was cut.
func (v *conversation) commit(sql string) bool {
	var cut CommitCut
	if v.currentStatus() == 'T' {
		var conflict *pgproto3.ErrorResponse
		if cut, conflict = v.cluster.faults.commit(); conflict != nil {
			v.ask("ROLLBACK")
			v.mu.Lock()
			v.conflict = true
			v.mu.Unlock()
			v.cluster.count(func(s *Stats) { s.Conflicts++ })
			v.say(conflict)
			return false
		}
	}
	if cut == BeforeApplied {
		v.cut()
		return false
	}
	answers := v.ask(sql)
	if cut == AfterApplied {
		v.cut()
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	ok := false
	for _, m := range answers {
		_, _ = v.client.w.Write(m)
		if m.kind() != 'C' {
			continue
		}
		ok = true
		v.cluster.count(func(s *Stats) {
			if m.text() == "COMMIT" {
				s.Commits++
			} else {
				s.Rollbacks++
			}
		})
	}
	_ = v.client.w.Flush()
	return ok
}

// count counts the beginning or the rolling back of a transaction.
func (v *conversation) count(what control) {
	v.mu.Lock()
	inside, again := v.status != 'I', v.conflict
	if what == begin {
		v.conflict = false
	}
	v.mu.Unlock()
	v.cluster.count(func(s *Stats) {
		switch {
		case what == rollback && inside:
			s.Rollbacks++
		case what == begin && !inside:
			s.Begins++
			if again {
				s.Retries++
			}
		}
	})
}
