package proxy

import (
	"bytes"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// prepared is a prepared statement.
type prepared struct {
	statement *dialect.Statement
	paramOIDs []uint32 // as in the client's Parse
}

// portal is a prepared statement with its parameters.
type portal struct {
	prepared
	bind      message
	described bool // the client has asked for its columns
	rollbacks int  // session.rollbacks at Bind
}

// write returns what it takes to execute the portal again.
func (p portal) write() *write {
	w := &write{statement: p.statement, paramOIDs: p.paramOIDs}
	_ = w.bind.Decode(p.bind.body())
	return w
}

// handleExtended handles one message of the extended query protocol.
func (f *frontend) handleExtended(m message) {
	if m.kind() == 'S' {
		f.handleSync(m)
		return
	}
	if f.held != nil {
		f.executeHeld(false)
	}
	if f.skipping {
		return
	}
	if f.batch == nil {
		if f.statusPending {
			f.settle()
		}
		f.resetTransaction()
	}
	switch m.kind() {
	case 'P':
		f.handleParse(m)
	case 'B':
		f.handleBind(m)
	case 'E':
		name, _ := cutText(m.body())
		f.handleExecute(m, f.portals[name])
	case 'D':
		if portal, ok := bytes.CutPrefix(m.body(), []byte("P")); ok {
			name, _ := cutText(portal)
			p := f.portals[name]
			p.described = true
			f.portals[name] = p
		}
		f.forward(m)
	default: // Close, Flush
		f.forward(m)
	}
}

// forward sends a message of the client's batch on unchanged.
func (f *frontend) forward(m message) {
	f.openBatch()
	_, _ = f.server.w.Write(m)
}

// openBatch returns the exchange of the current batch.
func (f *frontend) openBatch() *exchange {
	if f.batch == nil {
		f.batch = f.expect(&exchange{})
	}
	return f.batch
}

// handleParse prepares a statement.
func (f *frontend) handleParse(m message) {
	var parse pgproto3.Parse
	if parse.Decode(m.body()) != nil {
		f.forward(m)
		return
	}
	statements := dialect.Parse(parse.Query)
	st := &statements[0]
	f.statements[parse.Name] = prepared{st, parse.ParameterOIDs}
	f.prepareWrite(st)
	switch {
	case len(statements) > 1: // PostgreSQL refuses it
		f.forward(m)
	case st.Refusal != nil:
		f.refuseInBatch(refusalResponse(st.Refusal))
	case st.SQL != parse.Query:
		parse.Query = st.SQL
		f.openBatch()
		f.server.send(&parse)
	default:
		f.forward(m)
	}
}

// refuseInBatch replies to a message of a batch with an error. PostgreSQL then discards messages
// up to the Sync.
func (f *frontend) refuseInBatch(refusal *pgproto3.ErrorResponse) {
	x := f.openBatch()
	f.mu.Lock()
	x.refusal = refusal
	f.mu.Unlock()
	f.server.send(&pgproto3.Parse{Name: internalName, Query: refusedColumn})
}

// handleBind binds parameters to a statement.
func (f *frontend) handleBind(m message) {
	name, rest := cutText(m.body())
	statement, _ := cutText(rest)
	p := portal{prepared: f.statements[statement]}
	if p.statement != nil {
		if f.tx.yielded {
			if f.skipping = !f.drain(); f.skipping { // such as for a syntax error
				return
			}
			f.restoreFor(p.statement)
		}
		f.prepareWrite(p.statement)
		p.bind = append(message(nil), m...)
		p.rollbacks = f.rollbacks
	}
	f.portals[name] = p
	f.forward(m)
}

// prepareWrite sets the savepoint before the first message of a batch that writes, where that needs
// no waiting.
func (f *frontend) prepareWrite(st *dialect.Statement) {
	if f.batch == nil && !f.tx.savepoint && f.txStatus() == 'T' && f.writes(st) {
		f.setSavepoint()
	}
}

// handleExecute executes a portal.
func (f *frontend) handleExecute(m message, p portal) {
	st := p.statement
	if st == nil { // PostgreSQL reports that there is none
		f.forward(m)
		return
	}
	if f.statusPending { // an earlier statement of the batch began or ended a transaction
		if !f.drain() {
			f.skipping = true
			return
		}
		f.resetTransaction()
	}
	if refusal := f.check(st); refusal != nil {
		f.refuseInBatch(refusal)
		return
	}
	switch {
	case st.Kind == dialect.Copy && f.writes(st):
		if f.skipping = !f.drain(); !f.skipping {
			f.startCopy(p.write(), false)
		}
		return
	case f.writes(st), st.Kind == dialect.DDL && !f.inTransaction():
		f.held = &held{p, append(message(nil), m...)}
		return
	case f.intercepts(st):
		f.skipping = !f.drain() || !f.execPortal(p)
		return
	case p.rollbacks != f.rollbacks && f.inTransaction(): // the portal has gone
		f.skipping = !f.drain() || !f.execStale(p)
		return
	}
	f.trackTransaction(st.Kind)
	x := f.openBatch()
	f.mu.Lock()
	x.running = append(x.running, st)
	f.mu.Unlock()
	_, _ = f.server.w.Write(m)
}

// handleSync ends a batch.
func (f *frontend) handleSync(m message) {
	if f.held != nil && f.executeHeld(true) {
		f.skipping = false
		return
	}
	f.skipping = false
	if f.inPipeline {
		f.endPipeline()
		return
	}
	f.openBatch()
	f.batch = nil
	_, _ = f.server.w.Write(m)
}

// drain waits for the replies to everything sent so far, without ending the client's batch: in a
// transaction block a Sync has no other effect. It returns false if the batch has failed, so that
// the rest of it must not be executed.
func (f *frontend) drain() bool {
	f.statusPending = false
	x := f.batch
	if x == nil {
		f.settle()
		return true
	}
	f.batch = nil
	f.mu.Lock()
	x.capture = isReady
	f.mu.Unlock()
	f.server.send(&pgproto3.Sync{})
	f.waitFor(x)
	return !x.failed
}
