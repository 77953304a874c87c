package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// forwardCancel sends a cancel request on unchanged: its process ID and key are PostgreSQL's own,
// which the client received at startup.
func (p *Proxy) forwardCancel(packet startupPacket) {
	server, err := p.cfg.Server.Dial(p.ctx)
	if err != nil {
		return
	}
	defer server.Close()
	p.noteCancel(packet)
	defer context.AfterFunc(p.ctx, func() { server.Close() })()
	if _, err := server.Write(packet.raw); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, server) // PostgreSQL closes when it has handled the request
}

// cancelTime is how long after a cancel request an error may be its answer. One that hits an idle
// session has none.
const cancelTime = 10 * time.Second

// noteCancel tells the session that a cancel request is for.
func (p *Proxy) noteCancel(packet startupPacket) {
	const processID = 8 // behind the length and the code
	if len(packet.raw) < processID+4 {
		return
	}
	id := binary.BigEndian.Uint32(packet.raw[processID:])
	for _, s := range p.allSessions() {
		if s.processID.Load() == id {
			s.canceled.Store(time.Now().UnixNano())
		}
	}
}

// asLockTimeout turns the error of a statement that nobody has canceled into the lock timeout that
// it is: PostgreSQL signals itself at the timeout, and takes it for a cancel request if the lock
// was granted just then and the statement waits for the next.
func (r *relay) asLockTimeout(m message) message {
	if m.kind() != 'E' || !hasCode(m, queryCanceled) || !bytes.Contains(m, []byte("user request")) {
		return m
	}
	if time.Since(time.Unix(0, r.canceled.Swap(0))) < cancelTime {
		return m
	}
	var e pgproto3.ErrorResponse
	if e.Decode(m.body()) != nil {
		return m
	}
	e.Code, e.Message = lockNotAvailable, "canceling statement due to lock timeout"
	return encode(&e)
}
