package dsqltest

import (
	"bytes"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// refusedColumn does not exist. Asking for it is how a refusal takes its turn among
// the engine's answers: the engine ends a transaction for it, as DSQL does for what it
// refuses, or says that one has been ended.
const refusedColumn = `SELECT "dsqltest: refused"`

var refusedColumnError = []byte("dsqltest: refused")

// adapt makes a message of the engine what DSQL would say. It is called under mu.
func (v *conversation) adapt(x *exchange, m message) message {
	switch m.kind() {
	case 'S':
		return adaptParameter(m)
	case 'C', 'I', 's': // done, nothing to do, not to the end
		return v.adaptDone(x, m)
	case 'E':
		x.failed = true
		return adaptError(x, m)
	}
	return m
}

func adaptParameter(m message) message {
	var status pgproto3.ParameterStatus
	if status.Decode(m.body()) != nil || status.Name != "server_version" {
		return m
	}
	status.Value = dialect.ServerVersion
	return encode(&status)
}

// adaptDone tells what DSQL would say was done. DDL that is no part of a longer
// transaction is in force now.
func (v *conversation) adaptDone(x *exchange, m message) message {
	if len(x.running) == 0 {
		return m
	}
	st := x.running[0]
	x.running = x.running[1:]
	if st.Kind == dialect.DDL && v.status == 'I' {
		v.changeCatalog()
	}
	if st.Tag == "" || m.kind() != 'C' {
		return m
	}
	return encode(&pgproto3.CommandComplete{CommandTag: []byte(st.Tag)})
}

// changeCatalog makes a new version of the schema, which the session knows if it
// knew the one before. It is called under mu.
func (v *conversation) changeCatalog() {
	if now := v.cluster.catalog.Add(1); v.catalog == now-1 {
		v.catalog = now
	}
}

func adaptError(x *exchange, m message) message {
	var e pgproto3.ErrorResponse
	if e.Decode(m.body()) != nil {
		return m
	}
	if x.refusal != nil && e.Code == undefinedColumn && bytes.Contains(m, refusedColumnError) {
		return encode(x.refusal)
	}
	if words := conflictOf(&e); words != "" {
		x.blocked = e.Code == lockNotAvailable
		return encode(conflict(words))
	}
	if strings.Contains(e.Where, "sys.") { // the cluster's own functions are nobody's business
		e.Where, e.Position, e.InternalPosition, e.InternalQuery = "", 0, 0, ""
		return encode(&e)
	}
	return m
}

// conflictOf is DSQL's words for an error that PostgreSQL gives where another
// transaction is in the way, or nothing. Errors that a test's own function raises in
// DSQL's words stay as they are.
func conflictOf(e *pgproto3.ErrorResponse) string {
	switch {
	case strings.Contains(e.Message, "(OC0"):
		return ""
	case e.Code == serializationFailure, e.Code == deadlockDetected:
		return dataConflict
	case e.Code == lockNotAvailable && strings.Contains(e.Where, "tuple"): // it waited for a row
		return dataConflict
	case e.Code == lockNotAvailable,
		strings.HasPrefix(e.Message, "tuple concurrently "),                     // two that change the schema
		strings.HasPrefix(e.Message, "could not open relation with OID "),       // a table that is gone
		e.Code == uniqueViolation && strings.HasPrefix(e.ConstraintName, "pg_"): // two that make the same
		return schemaConflict
	}
	return ""
}

// encode makes a message to send. What this package makes can be encoded.
func encode(m pgproto3.BackendMessage) message {
	packet, err := m.Encode(nil)
	if err != nil {
		panic("dsqltest: " + err.Error())
	}
	return packet
}
