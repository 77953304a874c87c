package proxy

import (
	"github.com/jackc/pgx/v5/pgproto3"
)

// copying is a COPY FROM in execution.
type copying struct {
	*write
	exchange *exchange
	ready    bool // a ReadyForQuery ends it
}

// startCopy executes COPY FROM, which the client then sends the rows for.
func (f *frontend) startCopy(w *write, ready bool) {
	f.restore()
	x := f.beginWrite(w, ready)
	f.copying = &copying{w, x, ready}
	f.server.send(&pgproto3.Query{String: f.tx.inCopies(w.statement.SQL)})
	_ = f.server.w.Flush()
}

// handleCopy handles CopyData, CopyDone or CopyFail.
func (f *frontend) handleCopy(m message) {
	c := f.copying
	if c == nil { // PostgreSQL ignores it
		_, _ = f.server.w.Write(m)
		return
	}
	c.copyData = append(c.copyData, m...)
	_, _ = f.server.w.Write(m)
	if m.kind() == 'd' {
		return
	}
	f.copying = nil
	f.await(c.exchange)
	f.skipping = !f.endWrite(c.write, c.exchange, c.ready) && !c.ready
}
