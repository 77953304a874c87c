package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// relay carries the messages of one session between the client and PostgreSQL. PostgreSQL replies
// in the order of the requests, so the queue of pending exchanges tells which exchange a reply
// belongs to.
type relay struct {
	proxy  *Proxy
	log    *sessionLog
	client *stream // read by frontend.readLoop; written under mu
	server *stream // read by replyLoop; written while session.busy is held

	processID atomic.Uint32 // PostgreSQL's
	canceled  atomic.Int64  // when a cancel request was forwarded that has not been answered, in nanoseconds

	mu       sync.Mutex
	idle     sync.Cond   // pending is empty, or closed
	pending  []*exchange // oldest first; each ends with a ReadyForQuery
	status   byte        // of the last ReadyForQuery: I, T or E
	catalog  int64       // the version of the schema that the session has seen
	conflict bool        // the last transaction hit a conflict
	failed   bool        // the client has been sent an error in its transaction
	cause    message     // why the transaction has failed, which the client has not been told; nil: see failed
	ready    bool        // the client has been sent ReadyForQuery, and no message of its has come since
	ddl      bool        // its transaction executes DDL, and is counted in proxy.ddl
	expired  bool        // the session ends with its transaction
	closed   bool        // PostgreSQL's side has ended
}

// exchange is everything that PostgreSQL replies up to one ReadyForQuery.
type exchange struct {
	capture func(message) bool      // returns true for replies that the client does not get; nil: it gets all
	running []*dialect.Statement    // whose replies come next
	refusal *pgproto3.ErrorResponse // sent to the client in place of refusedColumn's error
	failed  bool                    // an error has been received
	cause   message                 // the first error that capture took
	blocked bool                    // by a lock
	done    chan struct{}           // closed at ReadyForQuery, or when PostgreSQL's side has ended

	write *attempt // of the last statement, if it takes part in conflicts
}

func newRelay(p *Proxy, client, server net.Conn, log *sessionLog) *relay {
	r := &relay{
		proxy:   p,
		log:     log,
		client:  newStream(&lossy{Conn: client, ctx: p.ctx, faults: &p.Faults}),
		server:  newStream(server),
		status:  'I',
		catalog: p.catalog.Load(),
	}
	r.idle.L = &r.mu
	r.expect(&exchange{}) // the replies to the startup message
	return r
}

// replyLoop delivers PostgreSQL's replies until either side ends, then closes both.
func (r *relay) replyLoop() {
	defer r.close()
	for {
		m, err := r.server.read(0)
		if err != nil || !r.proxy.Faults.waitResume(r.proxy.ctx) {
			return
		}
		err = r.deliver(m)
		if errors.Is(err, errExpired) {
			return
		}
		if err != nil {
			// The client has gone: PostgreSQL still executes what it was sent.
			_, _ = io.Copy(io.Discard, r.server.r)
			return
		}
	}
}

var errExpired = errors.New("session expired")

// deliver rewrites one reply and hands it to the exchange that it belongs to, or to the client.
func (r *relay) deliver(m message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m = r.asLockTimeout(m)
	var x *exchange
	if len(r.pending) > 0 {
		x = r.pending[0]
	}
	if m.kind() == 'Z' && x != nil {
		r.status = m.body()[0]
		r.noteCause(x.cause)
		r.pending = r.pending[1:]
		defer close(x.done)
		defer r.idle.Broadcast()
	}
	captured := x != nil && x.write != nil && len(x.running) <= 1 && x.write.holdBack(m)
	if x != nil && !captured {
		m = r.rewrite(x, m)
		captured = x.capture != nil && x.capture(m)
		if captured && m.kind() == 'E' && x.cause == nil {
			x.cause = append(message(nil), m...)
		}
	}
	if !captured {
		if err := r.writeClient(m); err != nil {
			return err
		}
	}
	if m.kind() == 'Z' && !captured && r.expired && r.status == 'I' {
		return errExpired
	}
	if r.server.r.Buffered() > 0 {
		return nil
	}
	return r.client.w.Flush()
}

// writeClient buffers a message for the client and counts conflicts. r.mu must be held.
func (r *relay) writeClient(m message) error {
	switch {
	case m.kind() == 'Z':
		r.noteReady(m.body()[0])
	case m.kind() == 'E':
		if r.cause != nil && hasCode(m, inFailedTransaction) {
			m = r.cause
		}
		r.cause = nil
		r.failed = true
		r.log.sent(m)
	}
	if m.kind() == 'E' && isConflict(m) {
		r.conflict = true
		r.proxy.updateStats(func(s *Stats) { s.Conflicts++ })
	}
	_, err := r.client.w.Write(m)
	return err
}

// noteReady records what the client is told of its transaction. r.mu must be held.
func (r *relay) noteReady(status byte) {
	r.ready = true
	if status == 'I' {
		r.endDDL()
		r.failed = false
	}
}

// noteDDL records that the session's transaction executes DDL.
func (r *relay) noteDDL() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ddl {
		r.ddl = true
		r.proxy.ddl.Add(1)
	}
}

// endDDL records the end of such a transaction. r.mu must be held.
func (r *relay) endDDL() {
	if r.ddl {
		r.ddl = false
		r.proxy.ddl.Add(-1)
	}
}

// noteCause records why a statement of the proxy's own has failed the transaction, which is rare: a
// cancel request hits whatever PostgreSQL executes at the moment. The client's next statement fails
// with it. r.mu must be held.
func (r *relay) noteCause(cause message) {
	if r.status != 'E' {
		r.cause = nil
	} else if !r.failed && r.cause == nil {
		r.cause = cause
	}
}

// untold returns the error that has failed the transaction, if the client has not been told, or
// nil.
func (r *relay) untold() *pgproto3.ErrorResponse {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e pgproto3.ErrorResponse
	if r.cause == nil || e.Decode(r.cause.body()) != nil {
		return nil
	}
	return &e
}

// close releases all that wait for PostgreSQL's replies and closes both connections.
func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	r.endDDL()
	for _, x := range r.pending {
		close(x.done)
	}
	r.pending = nil
	r.idle.Broadcast()
	_ = r.client.w.Flush()
	r.mu.Unlock()
	r.cut()
}

// cut closes both connections and sends nothing.
func (r *relay) cut() {
	r.client.Close()
	r.server.Close()
}

// expect adds an exchange, which one more ReadyForQuery will end.
func (r *relay) expect(x *exchange) *exchange {
	x.done = make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		close(x.done)
		return x
	}
	r.pending = append(r.pending, x)
	return x
}

// waitIdle flushes and waits until no reply is pending.
func (r *relay) waitIdle() {
	_ = r.server.w.Flush()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.pending) > 0 && !r.closed {
		r.idle.Wait()
	}
}

// collect has PostgreSQL execute what send sends, up to one ReadyForQuery, and returns the replies
// without the client seeing them. st is the statement, if it is the client's.
func (r *relay) collect(st *dialect.Statement, send func()) (replies []message) {
	x := r.expectCollect(st, &replies)
	send()
	r.waitFor(x)
	return replies
}

// setAttempt has an exchange hold back the trouble of its last statement.
func (r *relay) setAttempt(x *exchange, a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x.write = a
}

func (r *relay) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// expectCollect adds an exchange that appends its replies to replies. Parameter changes and
// notifications still go to the client.
func (r *relay) expectCollect(st *dialect.Statement, replies *[]message) *exchange {
	x := &exchange{capture: func(m message) bool {
		switch m.kind() {
		case 'S', 'A': // ParameterStatus, NotificationResponse
			return false
		case 'Z':
			return true
		}
		*replies = append(*replies, append(message(nil), m...))
		return true
	}}
	if st != nil {
		x.running = []*dialect.Statement{st}
	}
	return r.expect(x)
}

// waitFor flushes and waits until an exchange has ended.
func (r *relay) waitFor(x *exchange) {
	_ = r.server.w.Flush()
	<-x.done
}

// query runs a statement that the client did not send and returns the replies.
func (r *relay) query(sql string) []message {
	return r.collect(nil, func() { r.server.send(&pgproto3.Query{String: sql}) })
}

// writeError sends an error to the client.
func (r *relay) writeError(m pgproto3.BackendMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.writeClient(encode(m))
	_ = r.client.w.Flush()
}

// writeReplies sends collected replies to the client. It returns false if an error is among them.
func (r *relay) writeReplies(replies []message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range replies {
		_ = r.writeClient(m)
	}
	_ = r.client.w.Flush()
	return !hasError(replies)
}

// writeReady sends ReadyForQuery, for statements whose replies were collected.
func (r *relay) writeReady() {
	r.mu.Lock()
	r.noteReady(r.status)
	r.client.send(&pgproto3.ReadyForQuery{TxStatus: r.status})
	_ = r.client.w.Flush()
	r.mu.Unlock()
	r.cutIfExpired()
}

// txStatus returns the transaction status of the last ReadyForQuery: I, T or E.
func (r *relay) txStatus() byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

func (r *relay) inTransaction() bool { return r.txStatus() != 'I' }

// expire ends the session: now if it is idle, otherwise after its transaction.
func (r *relay) expire() {
	r.mu.Lock()
	r.expired = true
	r.mu.Unlock()
	r.cutIfExpired()
}

// noteMessage records that the client waits for replies.
func (r *relay) noteMessage() {
	r.mu.Lock()
	r.ready = false
	r.mu.Unlock()
}

// cutIfExpired ends a session that has expired and is idle: never between the end of a transaction
// and the client's reply.
func (r *relay) cutIfExpired() {
	r.mu.Lock()
	over := r.expired && r.ready && r.status == 'I' && len(r.pending) == 0
	r.mu.Unlock()
	if over {
		r.cut()
	}
}

// bumpCatalog creates a new version of the schema. The session has seen it if it had seen the
// previous one. r.mu must be held.
func (r *relay) bumpCatalog() {
	if now := r.proxy.catalog.Add(1); r.catalog == now-1 {
		r.catalog = now
	}
}

// takeCatalogChange reports whether the schema is another than the session has seen. From then on
// the session has seen it: each change is reported once.
func (r *relay) takeCatalogChange() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.proxy.catalog.Load()
	if r.catalog == now {
		return false
	}
	r.catalog = now
	return true
}
