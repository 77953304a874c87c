package pgtx

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Watch sees every message between a connection and its server, and so whatever ends a transaction:
// SQL, a batch, another pgx.Tx. pgx has one hook for it, its protocol trace, which costs about a
// microsecond for each statement; it is used only where a transaction may be ended past its owner.
type Watch struct {
	pg      *pgconn.PgConn
	holders int

	mu   sync.Mutex
	seen seen
}

// seen is what a Watch has seen since the last Reset.
type seen struct {
	sent       bool // a statement
	commitSent bool // a statement that commits
	ended      bool // the server said that a transaction ended
	committed  bool // the server said that a transaction committed
	failed     bool // the server sent an error
	ready      bool // the server is ready for the next statement
}

// watchKey is the key of a connection's Watch in its custom data.
const watchKey = "dsql.watch"

// NewWatch starts to watch pg, or joins the watch that is there. A protocol trace of the
// application's own on pg ends. Stop must follow.
func NewWatch(pg *pgconn.PgConn) *Watch {
	if w, ok := pg.CustomData()[watchKey].(*Watch); ok {
		w.holders++
		return w
	}
	w := &Watch{pg: pg, holders: 1}
	pg.CustomData()[watchKey] = w
	pg.Frontend().Trace(w, pgproto3.TracerOptions{SuppressTimestamps: true, RegressMode: true})
	return w
}

// Stop ends the watch, unless others have joined it.
func (w *Watch) Stop() {
	if w == nil {
		return
	}
	// pgx closes a connection in the background, where it still uses the trace.
	if w.holders--; w.holders == 0 && !w.pg.IsClosed() {
		w.pg.Frontend().Untrace()
		delete(w.pg.CustomData(), watchKey)
	}
}

// Ended reports whether the server has said that a transaction ended.
func (w *Watch) Ended() bool { return w.get().ended }

// Committed reports whether the server has said that a transaction committed.
func (w *Watch) Committed() bool { return w.get().committed }

// CommitSent reports whether a statement that commits was sent.
func (w *Watch) CommitSent() bool { return w.get().commitSent }

// Sent reports whether anything was sent.
func (w *Watch) Sent() bool { return w.get().sent }

// Failed reports whether the server has answered what was sent with an error, and is ready again.
func (w *Watch) Failed() bool { s := w.get(); return s.failed && s.ready }

// Succeeded reports whether the server has carried out what was sent, without an error.
func (w *Watch) Succeeded() bool { s := w.get(); return s.sent && s.ready && !s.failed }

// get returns what was seen. A nil Watch sees nothing.
func (w *Watch) get() seen {
	if w == nil {
		return seen{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// Reset forgets what was seen.
func (w *Watch) Reset() {
	if w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = seen{}
	}
}

// Outcome returns what became of a COMMIT that was sent since Reset and returned err.
func (w *Watch) Outcome(err error) Outcome {
	o := ErrorOutcome(err)
	if w == nil || o != Unknown {
		return o
	}
	switch s := w.get(); {
	case s.committed:
		return Committed
	case s.ended:
		return RolledBack
	case !s.sent:
		return NotSent
	}
	return Unknown
}

var tab = []byte("\t")

// Write is given one message of the trace: who sends it, its type, its length and its fields.
func (w *Watch) Write(line []byte) (int, error) {
	_, rest, _ := bytes.Cut(line, tab)
	kind, rest, _ := bytes.Cut(rest, tab)
	_, fields, _ := bytes.Cut(rest, tab)
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.seen
	switch string(kind) {
	case "Query":
		s.sent, s.ready = true, false
		s.commitSent = s.commitSent || MayCommit(strings.TrimLeft(string(fields), ` "`))
	case "Parse": // a name, and the statement
		name, sql, _ := strings.Cut(strings.TrimPrefix(string(fields), ` "`), `" "`)
		w.prepared(name, MayCommit(sql))
	case "Bind": // a portal, and the name of a statement
		_, rest, _ := strings.Cut(string(fields), `" "`)
		name, _, _ := strings.Cut(rest, `"`)
		s.commitSent = s.commitSent || w.commits(name)
	case "Execute":
		s.sent, s.ready = true, false
	case "CommandComplete":
		committed := bytes.HasSuffix(line, []byte("\"COMMIT\"\n"))
		s.committed = s.committed || committed
		s.ended = s.ended || committed || bytes.HasSuffix(line, []byte("\"ROLLBACK\"\n"))
	case "ErrorResponse":
		s.failed = true
	case "ReadyForQuery":
		s.ready = true
	}
	return len(line), nil
}

// commitsKey is the key of the names of a connection's prepared statements that commit, which later
// transactions may run without their text.
const commitsKey = "dsql.commits"

func (w *Watch) prepared(name string, commits bool) {
	names, _ := w.pg.CustomData()[commitsKey].(map[string]bool)
	if commits && names == nil {
		names = make(map[string]bool)
		w.pg.CustomData()[commitsKey] = names
	}
	if commits || names[name] {
		names[name] = commits
	}
}

func (w *Watch) commits(name string) bool {
	names, _ := w.pg.CustomData()[commitsKey].(map[string]bool)
	return names[name]
}

// MayEnd reports whether one of the statements in sql, by its first word, ends a transaction. A
// semicolon in a literal counts as one between statements.
func MayEnd(sql string) bool { return startsWith(sql, "commit", "end", "rollback", "abort") }

// MayCommit is MayEnd for commits only.
func MayCommit(sql string) bool { return startsWith(sql, "commit", "end") }

// ControlsTx reports whether one of the statements in sql begins or ends a transaction.
func ControlsTx(sql string) bool { return MayEnd(sql) || startsWith(sql, "begin", "start") }

// IsOne reports whether sql is one statement: not none, and not several in one text, of which pgx
// returns the results of the first in a batch, and of the last elsewhere. A semicolon in a literal
// counts as one between statements.
func IsOne(sql string) bool {
	return skipSpace(sql) != "" && !strings.Contains(strings.TrimRight(sql, "; \t\r\n"), ";")
}

func startsWith(sql string, words ...string) bool {
	for {
		first := skipSpace(sql)
		for _, word := range words {
			if len(first) >= len(word) && strings.EqualFold(first[:len(word)], word) && (len(first) == len(word) || !isWord(first[len(word)])) {
				return true
			}
		}
		// Also in what was skipped: after a semicolon in a literal it may be no comment.
		semicolon := strings.IndexByte(sql, ';')
		if semicolon < 0 {
			return false
		}
		sql = sql[semicolon+1:]
	}
}

// skipSpace skips what may stand before a statement: spaces, comments and semicolons.
func skipSpace(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v;")
		switch {
		case strings.HasPrefix(sql, "--"):
			sql = strings.TrimLeftFunc(sql, func(r rune) bool { return r != '\n' && r != '\r' })
		case strings.HasPrefix(sql, "/*"):
			sql = skipComment(sql)
		default:
			return sql
		}
	}
}

// skipComment skips the block comment that sql begins with. Comments nest.
func skipComment(sql string) string {
	for depth := 0; sql != ""; {
		switch {
		case strings.HasPrefix(sql, "/*"):
			depth++
			sql = sql[2:]
		case strings.HasPrefix(sql, "*/"):
			depth--
			sql = sql[2:]
		default:
			sql = sql[1:]
		}
		if depth == 0 {
			return sql
		}
	}
	return ""
}

func isWord(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= '0' && c <= '9' || c >= 0x80
}

// BatchMayEnd is MayEnd for the statements of a batch.
func BatchMayEnd(b *pgx.Batch) bool {
	return slices.ContainsFunc(b.QueuedQueries, func(q *pgx.QueuedQuery) bool { return MayEnd(q.SQL) })
}
