package fakepg

import (
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Rows is a table of counters in which the first committer wins: a COMMIT fails with OC000 if
// another transaction has changed a row that it writes since its BEGIN. Use its Answer with [SQL].
//
// An update outside a transaction is committed by itself, or with the others of its batch.
//
// It knows "select n from t where id = 1", "update t set n = 2 where id = 1" and
// "update t set n = n + 2 where id = 1", with numbers or $1, $2.
type Rows struct {
	mu       sync.Mutex
	clock    int
	rows     map[int64]version
	sessions map[int]*transaction
}

type version struct {
	n       int64
	changed int // when, by the clock
}

type transaction struct {
	began  int
	writes map[int64]int64
}

// Value returns the committed value of a row.
func (r *Rows) Value(id int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rows[id].n
}

// Values returns the committed values of all rows.
func (r *Rows) Values() map[int64]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	values := make(map[int64]int64, len(r.rows))
	for id, row := range r.rows {
		values[id] = row.n
	}
	return values
}

// Total is the sum of all rows.
func (r *Rows) Total() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var total int64
	for _, row := range r.rows {
		total += row.n
	}
	return total
}

var (
	selectRow = regexp.MustCompile(`^select n from t where id = (\S+)$`)
	updateRow = regexp.MustCompile(`^update t set n = (n \+ )?(\S+) where id = (\S+)$`)
)

// Answer replies to one step of a statement.
func (r *Rows) Answer(s Statement) Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case s.Step == Sync && s.SQL == "sync":
		return r.commit(s.Session)
	case s.Step == Sync:
		delete(r.sessions, s.Session)
		return Reply{}
	case s.Step != Execute:
		return Reply{}
	}
	if r.rows == nil {
		r.rows, r.sessions = map[int64]version{}, map[int]*transaction{}
	}
	switch word, _, _ := strings.Cut(s.SQL, " "); word {
	case "begin":
		if r.sessions[s.Session] != nil {
			return Reply{} // a warning only
		}
		r.sessions[s.Session] = &transaction{began: r.clock, writes: map[int64]int64{}}
		return Reply{}
	case "rollback":
		delete(r.sessions, s.Session)
		return Reply{}
	case "commit":
		return r.commit(s.Session)
	}
	if m := selectRow.FindStringSubmatch(s.SQL); m != nil {
		return Reply{Rows: [][]int64{{r.rows[number(m[1], s.Args)].n}}}
	}
	tx := r.sessions[s.Session]
	if tx == nil && !s.InTx {
		tx = &transaction{began: r.clock, writes: map[int64]int64{}}
		r.sessions[s.Session] = tx
	}
	if m := updateRow.FindStringSubmatch(s.SQL); m != nil && tx != nil {
		id, n := number(m[3], s.Args), number(m[2], s.Args)
		if m[1] != "" {
			if mine, ok := tx.writes[id]; ok {
				n += mine
			} else {
				n += r.rows[id].n
			}
		}
		tx.writes[id] = n
		return Reply{}
	}
	return Reply{Err: &pgconn.PgError{Code: "42601", Message: "not in the script: " + s.SQL}}
}

func (r *Rows) commit(session int) Reply {
	tx := r.sessions[session]
	delete(r.sessions, session)
	if tx == nil {
		return Reply{}
	}
	for id := range tx.writes {
		if r.rows[id].changed > tx.began {
			return Reply{Err: Conflict()}
		}
	}
	r.clock++
	for id, n := range tx.writes {
		r.rows[id] = version{n, r.clock}
	}
	return Reply{}
}

// Conflict returns DSQL's error for a data conflict.
func Conflict() *pgconn.PgError {
	return &pgconn.PgError{Code: "40001", Message: "change conflicts with another transaction (OC000)"}
}

// number returns the value of a literal, or of the argument that $n names.
func number(text string, args []int64) int64 {
	if text[0] == '$' {
		n, _ := strconv.Atoi(text[1:])
		return args[n-1]
	}
	n, _ := strconv.ParseInt(strings.Trim(text, "'"), 10, 64)
	return n
}
