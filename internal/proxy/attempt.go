package proxy

import (
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// attempt is the execution of a write while the client gets the replies. It holds trouble back, so
// that the write can be executed again and the client sees only one reply.
type attempt struct {
	statement *dialect.Statement
	inBlock   bool
	final     bool   // trouble goes to the client
	hidden    string // kinds of replies that do not go to the client

	trouble   trouble
	heldBack  message // the error
	described bool    // the client knows the columns
	told      digest
}

// trouble is an error of PostgreSQL that a write does not get on DSQL, or not in this form.
type trouble int

const (
	none     trouble = iota
	blocked          // by another transaction, which is executing a statement or has executed DDL
	conflict         // a row has been changed since the snapshot
	violated         // a constraint; perhaps by a row that has been committed since the snapshot
	readOnly         // a Lock in a read-only transaction
	canceled         // by the client, while it was executed again
)

// holdBack reports whether a reply is not for the client: trouble, and all that follows it.
func (a *attempt) holdBack(m message) bool {
	if a.trouble != none || strings.IndexByte(a.hidden, m.kind()) >= 0 {
		return true
	}
	switch m.kind() {
	case 'T', 'G': // RowDescription, CopyInResponse
		a.described = true
	case 'E':
		if !a.final && a.told.rows == 0 {
			a.trouble = a.troubleOf(m)
			a.heldBack = append(message(nil), m...)
		}
	}
	a.told.add(m)
	return a.trouble != none
}

// troubleOf returns the trouble that an ErrorResponse reports.
func (a *attempt) troubleOf(m message) trouble {
	var e pgproto3.ErrorResponse
	if e.Decode(m.body()) != nil || strings.Contains(e.Message, "(OC0") {
		return none
	}
	switch {
	case e.Code == lockNotAvailable, e.Code == deadlockDetected:
		return blocked
	case e.Code == readOnlyTransaction && a.statement.Kind == dialect.Lock:
		return readOnly
	case !a.inBlock:
		return none
	case e.Code == serializationFailure:
		return conflict
	case (e.Code == uniqueViolation || e.Code == foreignKeyViolation) && !strings.HasPrefix(e.ConstraintName, "pg_"):
		return violated
	}
	return none
}

// digest hashes the rows and command tags of replies.
type digest struct {
	hash uint64
	rows int
}

func (d *digest) add(m message) {
	switch m.kind() {
	case 'D':
		d.rows++
	case 'C':
	default:
		return
	}
	for _, b := range m { // FNV-1a
		d.hash = (d.hash ^ uint64(b)) * 1099511628211
	}
}
