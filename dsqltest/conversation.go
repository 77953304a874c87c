package dsqltest

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// conversation stands between a client and the engine once the client is let in.
// One goroutine reads what the client asks, another what the engine answers. The
// engine answers in the order of the asking, so a queue of exchanges tells what
// an answer belongs to.
type conversation struct {
	cluster *Cluster
	client  *stream // read by listen; written under mu
	engine  *stream // read by answer; written by listen

	// What only listen uses, while it has its turn.
	turn       sync.Mutex
	statements map[string]*dialect.Statement // by name
	portals    map[string]portal             // by name
	batch      *exchange                     // of extended-query messages, until their Sync
	skipping   bool                          // to the next Sync, after an error of ours
	unsettled  bool                          // a BEGIN, COMMIT or ROLLBACK awaits its answer
	tx         transaction

	mu       sync.Mutex
	idle     sync.Cond   // the queue is empty, or the engine has gone
	queue    []*exchange // that await their ReadyForQuery
	status   byte        // of the last ReadyForQuery: I, T or E
	catalog  int64       // the version of the schema that the session knows
	conflict bool        // the last transaction met one
	expired  bool        // the session ends with its transaction
	gone     bool        // the engine's side has ended
}

// exchange is what the engine answers up to one ReadyForQuery.
type exchange struct {
	take    func(message) bool      // true: not for the client. nil: all of it is
	running []*dialect.Statement    // whose answers come next
	refusal *pgproto3.ErrorResponse // what the client is told where the engine says refusedColumn
	failed  bool                    // an error has been answered
	blocked bool                    // by a lock
	done    chan struct{}           // closed at ReadyForQuery, or when the engine has gone
}

// converse carries a session until either side ends it.
//
// A client that ends first has its last statements carried out, as behind a real
// server: the engine reads them to the end, and then its end of file.
func (c *Cluster) converse(client, engine net.Conn) {
	v := &conversation{
		cluster:    c,
		client:     newStream(client),
		engine:     newStream(engine),
		statements: make(map[string]*dialect.Statement),
		portals:    make(map[string]portal),
		status:     'I',
		catalog:    c.catalog.Load(),
	}
	v.idle.L = &v.mu
	v.push(&exchange{}) // the answer to the startup message
	c.add(v)
	defer c.remove(v)
	defer time.AfterFunc(c.sessionAge, v.expire).Stop()

	var answering sync.WaitGroup
	answering.Go(v.answer)
	v.listen()
	_ = v.engine.w.Flush()
	if half, ok := engine.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	answering.Wait()
}

// cut ends the session without a word.
func (v *conversation) cut() {
	v.client.Close()
	v.engine.Close()
}

// answer reads the engine until it ends, and ends the client with it.
func (v *conversation) answer() {
	defer v.end()
	for {
		m, err := v.engine.read(0)
		if err != nil || !v.cluster.faults.pass(v.cluster.ctx) {
			return
		}
		err = v.deliver(m)
		if errors.Is(err, errExpired) {
			return
		}
		if err != nil {
			// The client has gone: the engine carries out what it was sent.
			_, _ = io.Copy(io.Discard, v.engine.r)
			return
		}
	}
}

var errExpired = errors.New("the session has expired")

// deliver hands one message of the engine to who is to have it.
func (v *conversation) deliver(m message) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var x *exchange
	if len(v.queue) > 0 {
		x = v.queue[0]
	}
	if m.kind() == 'Z' && x != nil {
		v.status = m.body()[0]
		v.queue = v.queue[1:]
		defer close(x.done)
		defer v.idle.Broadcast()
	}
	taken := false
	if x != nil {
		m = v.adapt(x, m)
		taken = x.take != nil && x.take(m)
	}
	if !taken {
		if err := v.tell(m); err != nil {
			return err
		}
	}
	if m.kind() == 'Z' && !taken && v.expired && v.status == 'I' {
		return errExpired
	}
	if v.engine.r.Buffered() > 0 {
		return nil
	}
	return v.client.w.Flush()
}

// tell hands the client a message, and counts it if it is of a conflict. It is called
// under mu.
func (v *conversation) tell(m message) error {
	if m.kind() == 'E' && isConflict(m) {
		v.conflict = true
		v.cluster.count(func(s *Stats) { s.Conflicts++ })
	}
	_, err := v.client.w.Write(m)
	return err
}

// end lets go of whoever waits for the engine.
func (v *conversation) end() {
	v.mu.Lock()
	v.gone = true
	for _, x := range v.queue {
		close(x.done)
	}
	v.queue = nil
	v.idle.Broadcast()
	_ = v.client.w.Flush()
	v.mu.Unlock()
	v.cut()
}

// push expects one more ReadyForQuery.
func (v *conversation) push(x *exchange) *exchange {
	x.done = make(chan struct{})
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone {
		close(x.done)
		return x
	}
	v.queue = append(v.queue, x)
	return x
}

// settle waits until the engine owes no answer.
func (v *conversation) settle() {
	_ = v.engine.w.Flush()
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.queue) > 0 && !v.gone {
		v.idle.Wait()
	}
	v.unsettled = false
}

// collect has the engine answer what send sends, to one ReadyForQuery, and keeps the
// answers from the client, but for what is not an answer to it.
func (v *conversation) collect(st *dialect.Statement, send func()) (answers []message) {
	x := v.expect(st, &answers)
	send()
	_ = v.engine.w.Flush()
	<-x.done
	return answers
}

// expect is collect without sending and without waiting.
func (v *conversation) expect(st *dialect.Statement, answers *[]message) *exchange {
	x := &exchange{take: func(m message) bool {
		switch m.kind() {
		case 'S', 'A': // a parameter, a notification
			return false
		case 'Z':
			return true
		}
		*answers = append(*answers, append(message(nil), m...))
		return true
	}}
	if st != nil {
		x.running = []*dialect.Statement{st}
	}
	return v.push(x)
}

// ask runs a statement that the client did not send.
func (v *conversation) ask(sql string) []message {
	return v.collect(nil, func() { v.engine.send(&pgproto3.Query{String: sql}) })
}

// say sends a message to the client at once.
func (v *conversation) say(m pgproto3.BackendMessage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.tell(encode(m))
	_ = v.client.w.Flush()
}

// forward hands the client what was collected. It is false if there is an error in
// it.
func (v *conversation) forward(answers []message) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	ok := true
	for _, m := range answers {
		ok = ok && m.kind() != 'E'
		_ = v.tell(m)
	}
	_ = v.client.w.Flush()
	return ok
}

// ready tells the client that the session is ready, for statements that the
// engine was asked in its place.
func (v *conversation) ready() {
	v.mu.Lock()
	v.client.send(&pgproto3.ReadyForQuery{TxStatus: v.status})
	_ = v.client.w.Flush()
	v.mu.Unlock()
	v.endIfExpired()
}

func (v *conversation) currentStatus() byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.status
}

func (v *conversation) inTransaction() bool { return v.currentStatus() != 'I' }

// expire ends the session: at once, or after its transaction.
func (v *conversation) expire() {
	v.mu.Lock()
	v.expired = true
	v.mu.Unlock()
	v.endIfExpired()
}

func (v *conversation) endIfExpired() {
	v.mu.Lock()
	over := v.expired && v.status == 'I' && len(v.queue) == 0
	v.mu.Unlock()
	if over {
		v.cut()
	}
}
