package proxy

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The log is bounded, so that a cluster may run for days: 20 MB of text at most, since an event has
// a role and either a statement or a message.
const (
	maxEvents = 10_000
	maxText   = 1_000 // bytes of a role, a statement or a message
)

// Event is one entry of an endpoint's log: a statement that was received, an error that was sent, or
// a connection that was refused.
type Event struct {
	Time    time.Time
	Session int    // counted from 1; 0 for a refused connection
	User    string // the role, at most 1,000 bytes
	SQL     string // as received, at most 1,000 bytes; empty if the event is an error
	Code    string // SQLSTATE as sent; empty if the event is a statement
	Message string // as sent with Code, at most 1,000 bytes
}

// eventLog holds the latest events. It is safe for concurrent use.
type eventLog struct {
	mu       sync.Mutex
	sessions int
	events   []Event
}

func (l *eventLog) add(e Event) {
	e.Time = time.Now()
	e.User, e.Message = shorten(e.User), shorten(e.Message)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == maxEvents {
		l.events = slices.Delete(l.events, 0, maxEvents/2)
	}
	l.events = append(l.events, e)
}

func (l *eventLog) all() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// sessionLog logs one session. What is received and what is sent may be logged at the same time.
type sessionLog struct {
	log  *eventLog
	id   int
	user string

	statements map[string]string // prepared, by name
	portals    map[string]string // their statements, by name
}

func (l *eventLog) newSession(user string) *sessionLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions++
	return &sessionLog{log: l, id: l.sessions, user: user, statements: make(map[string]string), portals: make(map[string]string)}
}

// received logs the statement that a client's message executes.
func (l *sessionLog) received(m message) {
	switch m.kind() {
	case 'Q':
		l.add(shortText(m.body()))
	case 'P':
		name, query := cutText(m.body())
		l.statements[name] = shortText(query)
	case 'B':
		portal, rest := cutText(m.body())
		statement, _ := cutText(rest)
		l.portals[portal] = l.statements[statement]
	case 'E':
		portal, _ := cutText(m.body())
		l.add(l.portals[portal])
	}
}

func (l *sessionLog) add(sql string) {
	if sql = strings.TrimSpace(sql); sql != "" {
		l.log.add(Event{Session: l.id, User: l.user, SQL: sql})
	}
}

// sent logs an ErrorResponse.
func (l *sessionLog) sent(m message) {
	var e pgproto3.ErrorResponse
	if e.Decode(m.body()) == nil {
		l.log.add(Event{Session: l.id, User: l.user, Code: e.Code, Message: e.Message})
	}
}

// shorten returns text up to maxText bytes, and does not keep the rest in memory.
func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	return shortText([]byte(text[:maxText]))
}

// shortText copies the first string of b, up to maxText bytes.
func shortText(b []byte) string {
	text, _ := cutText(b[:min(len(b), maxText)])
	return strings.ToValidUTF8(text, "")
}
