package proxy

import (
	"errors"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// frontend handles the messages that a client sends. Its fields are used under session.busy only.
type frontend struct {
	*session

	statements map[string]prepared // by name
	portals    map[string]portal   // by name
	copying    *copying            // the COPY FROM that the client sends rows for
	batch      *exchange           // of extended-query messages, up to their Sync
	skipping   bool                // discard messages up to the next Sync, after an error
	held       *held               // waits for the next message
	inPipeline bool                // in the transaction block of a pipeline with DDL
}

func newFrontend(s *session) *frontend {
	return &frontend{
		session:    s,
		statements: make(map[string]prepared),
		portals:    make(map[string]portal),
	}
}

// readLoop reads and handles the client's messages until the client ends.
func (f *frontend) readLoop() {
	for {
		m, err := f.client.read(maxMessage)
		if tooLong := (errTooLong{}); errors.As(err, &tooLong) {
			f.writeError(&pgproto3.ErrorResponse{
				Severity:            "FATAL",
				SeverityUnlocalized: "FATAL",
				Code:                protocolViolation,
				Message:             "invalid message length",
			})
			f.cut()
			return
		}
		if err != nil || !f.proxy.Faults.waitPause(f.proxy.ctx) {
			return
		}
		if m.kind() == 'Q' || m.kind() == 'S' {
			f.proxy.Faults.waitLatency(f.proxy.ctx) // on its way: the session is not at work yet
		}
		if f.handle(m) != nil {
			return
		}
	}
}

// handle handles one message.
func (f *frontend) handle(m message) error {
	f.busy.Lock()
	defer f.busy.Unlock()
	f.noteMessage()
	f.log.received(m)
	switch m.kind() {
	case 'Q':
		f.handleQuery(m)
	case 'P', 'B', 'D', 'E', 'C', 'H', 'S':
		f.handleExtended(m)
	case 'd', 'c', 'f':
		f.handleCopy(m)
	default: // Terminate, function calls
		_, _ = f.server.w.Write(m)
	}
	if f.client.r.Buffered() > 0 {
		return nil
	}
	return f.server.w.Flush()
}

// handleQuery executes a Query message.
func (f *frontend) handleQuery(m message) {
	f.settle()
	f.resetTransaction()
	statements := dialect.Parse(m.text())
	if len(statements) > 1 || f.locksAlone(&statements[0]) {
		f.execStatements(statements)
		return
	}
	st := &statements[0]
	if refusal := f.check(st); refusal != nil {
		f.expect(&exchange{refusal: refusal})
		f.server.send(&pgproto3.Query{String: refusedColumn})
		return
	}
	f.restoreFor(st)
	switch {
	case !f.intercepts(st):
	case st.Kind == dialect.Copy:
		f.startCopy(&write{statement: st, simple: true}, true)
		return
	case f.writes(st):
		f.execWrite(&write{statement: st, simple: true}, true)
		return
	default:
		f.exec(st)
		f.writeReady()
		return
	}
	f.trackTransaction(st.Kind)
	f.expect(&exchange{running: []*dialect.Statement{st}})
	if st.SQL == m.text() {
		_, _ = f.server.w.Write(m)
	} else {
		f.server.send(&pgproto3.Query{String: st.SQL})
	}
}

// execStatements executes a Query message of several statements. They are one implicit transaction
// unless the session is in a transaction block or they control transactions themselves.
func (f *frontend) execStatements(statements []dialect.Statement) {
	implicit := !f.inTransaction()
	for i := range statements {
		switch statements[i].Kind {
		case dialect.Begin, dialect.Commit, dialect.Rollback:
			implicit = false
		}
	}
	if implicit {
		f.query("BEGIN")
	}
	ok := true
	for i := range statements {
		if ok = f.checkAndExec(&statements[i]); !ok {
			break
		}
	}
	switch {
	case implicit && ok:
		f.execCommit(&dialect.Statement{Kind: dialect.Commit, SQL: "COMMIT"}, false)
	case implicit:
		f.query("ROLLBACK")
	}
	f.writeReady()
}
