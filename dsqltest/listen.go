package dsqltest

import (
	"errors"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// portal is a statement with its parameters.
type portal struct {
	statement *dialect.Statement
	bind      message // kept for a Write or a Lock, which may have to be asked otherwise
}

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
		if v.hear(m) != nil {
			return
		}
	}
}

// hear does what one message of the client asks for.
func (v *conversation) hear(m message) error {
	v.turn.Lock()
	defer v.turn.Unlock()
	switch m.kind() {
	case 'Q':
		v.query(m)
	case 'P', 'B', 'D', 'E', 'C', 'H', 'S':
		v.extended(m)
	default: // rows of COPY, the end, function calls
		_, _ = v.engine.w.Write(m)
	}
	if v.client.r.Buffered() > 0 {
		return nil
	}
	return v.engine.w.Flush()
}

// query carries out a Query message.
func (v *conversation) query(m message) {
	v.cluster.faults.roundTrip(v.cluster.ctx)
	v.settle()
	v.beginImplicit()
	statements := dialect.Parse(m.text())
	if len(statements) > 1 {
		v.several(statements)
		return
	}
	st := &statements[0]
	if refusal := v.check(st); refusal != nil {
		v.refuse(refusal)
		return
	}
	if v.controls(st) {
		v.perform(st)
		v.ready()
		return
	}
	v.count(st.Kind)
	v.push(&exchange{running: []*dialect.Statement{st}})
	if st.SQL == m.text() {
		_, _ = v.engine.w.Write(m)
	} else {
		v.engine.send(&pgproto3.Query{String: st.SQL})
	}
}

// refuse answers a Query message with an error.
func (v *conversation) refuse(refusal *pgproto3.ErrorResponse) {
	v.push(&exchange{refusal: refusal})
	v.engine.send(&pgproto3.Query{String: refusedColumn})
}

// several carries out a string of statements, which are a transaction unless there
// is one already or they begin and end their own.
func (v *conversation) several(statements []dialect.Statement) {
	implicit := !v.inTransaction()
	for i := range statements {
		switch statements[i].Kind {
		case dialect.Begin, dialect.Commit, dialect.Rollback:
			implicit = false
		}
	}
	if implicit {
		v.ask("BEGIN")
	}
	ok := true
	for i := range statements {
		if ok = v.carryOut(&statements[i]); !ok {
			break
		}
	}
	switch {
	case implicit && ok:
		v.commit(&dialect.Statement{Kind: dialect.Commit, SQL: "COMMIT"}, false)
	case implicit:
		v.ask("ROLLBACK")
	}
	v.ready()
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
	if v.batch == nil {
		if v.unsettled {
			v.settle()
		}
		v.beginImplicit()
	}
	switch m.kind() {
	case 'P':
		v.parse(m)
	case 'B':
		v.bind(m)
	case 'E':
		name, _ := cutText(m.body())
		v.execute(m, v.portals[name])
	default:
		v.pass(m)
	}
}

// pass gives the engine a message of the client's batch.
func (v *conversation) pass(m message) {
	v.openBatch()
	_, _ = v.engine.w.Write(m)
}

func (v *conversation) openBatch() *exchange {
	if v.batch == nil {
		v.batch = v.push(&exchange{})
	}
	return v.batch
}

// parse prepares a statement.
func (v *conversation) parse(m message) {
	var parse pgproto3.Parse
	if parse.Decode(m.body()) != nil {
		v.pass(m)
		return
	}
	statements := dialect.Parse(parse.Query)
	st := &statements[0]
	v.statements[parse.Name] = st
	switch {
	case len(statements) > 1: // the engine says that it takes one at a time
		v.pass(m)
	case st.Refusal != nil:
		v.refuseInBatch(asError(st.Refusal))
	case st.SQL != parse.Query:
		parse.Query = st.SQL
		v.openBatch()
		v.engine.send(&parse)
	default:
		v.pass(m)
	}
}

// refuseInBatch answers a message of a batch with an error, after which the engine
// skips to the Sync.
func (v *conversation) refuseInBatch(refusal *pgproto3.ErrorResponse) {
	x := v.openBatch()
	v.mu.Lock()
	x.refusal = refusal
	v.mu.Unlock()
	v.engine.send(&pgproto3.Parse{Name: ownName, Query: refusedColumn})
}

// bind gives a statement its parameters.
func (v *conversation) bind(m message) {
	name, rest := cutText(m.body())
	statement, _ := cutText(rest)
	p := portal{statement: v.statements[statement]}
	if st := p.statement; st != nil && (st.Kind == dialect.Write || st.Kind == dialect.Lock) {
		p.bind = append(message(nil), m...)
	}
	v.portals[name] = p
	v.pass(m)
}

// execute carries out a portal.
func (v *conversation) execute(m message, p portal) {
	st := p.statement
	if st == nil { // the engine says that there is none
		v.pass(m)
		return
	}
	if v.unsettled { // what came before it in the batch began or ended a transaction
		if !v.drain() {
			v.skipping = true
			return
		}
		v.beginImplicit()
	}
	if refusal := v.check(st); refusal != nil {
		v.refuseInBatch(refusal)
		return
	}
	if v.controls(st) {
		v.skipping = !v.drain() || !v.performPortal(m, p)
		return
	}
	v.count(st.Kind)
	x := v.openBatch()
	v.mu.Lock()
	x.running = append(x.running, st)
	v.mu.Unlock()
	_, _ = v.engine.w.Write(m)
}

// sync ends a batch.
func (v *conversation) sync(m message) {
	v.cluster.faults.roundTrip(v.cluster.ctx)
	v.skipping = false
	v.openBatch()
	v.batch = nil
	_, _ = v.engine.w.Write(m)
}

// drain has the engine answer all that it was sent, without ending the client's
// batch: inside a transaction a Sync does no more. It is false if the batch has
// failed, so that nothing more of it is carried out.
func (v *conversation) drain() bool {
	v.unsettled = false
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
