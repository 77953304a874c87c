package proxy

import (
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// lockTimeout bounds how long PostgreSQL waits for a lock. A statement that waits longer has hit a
// conflict; locks held only for a moment, such as that on the end of a table which two sessions
// extend, are released sooner.
const lockTimeout = "20ms"

// execWrite executes a Write or a Lock in a transaction block. On DSQL writers never block, and the
// loser fails at COMMIT: so a statement that cannot have its rows is rolled back, its reply is
// synthesized, and the transaction is doomed. Where the reply cannot be synthesized, the statement
// fails. substitute runs the query that the reply is synthesized from.
func (s *session) execWrite(st *dialect.Statement, send func(), substitute func() []message) bool {
	s.savepoint()
	replies := s.collect(st, send)
	if !hasDataConflict(replies) {
		return s.writeReplies(replies)
	}
	s.execInternal("ROLLBACK TO " + internalName)
	if st.Instead != "" {
		if replies := substitute(); !hasError(replies) {
			s.tx.doomed = true
			return s.writeReplies(synthesizeReply(st, replies))
		}
	}
	s.query(refusedColumn) // fails the transaction
	s.writeError(conflictResponse(dataConflict))
	return false
}

// execSubstitute runs a portal's substitute query with the portal's parameters.
func (s *session) execSubstitute(p portal) []message {
	var bind pgproto3.Bind
	if err := bind.Decode(p.bind.body()); err != nil {
		return []message{encode(conflictResponse(dataConflict))}
	}
	var described pgproto3.ParameterDescription
	for _, m := range s.collect(nil, func() {
		s.server.send(&pgproto3.Describe{ObjectType: 'S', Name: bind.PreparedStatement})
		s.server.send(&pgproto3.Sync{})
	}) {
		if m.kind() == 't' {
			_ = described.Decode(m.body())
		}
	}
	if p.statement.Kind == dialect.Write {
		bind.ResultFormatCodes = nil // a count, as text
	}
	return s.collect(nil, func() {
		s.sendPrepared(&pgproto3.Parse{Query: p.statement.Instead, ParameterOIDs: described.ParameterOIDs}, &bind)
	})
}

// synthesizeReply builds the reply to a statement from the replies to its substitute query: the
// rows of a Lock, the number of rows of a Write.
func synthesizeReply(st *dialect.Statement, substitute []message) (reply []message) {
	if st.Kind == dialect.Lock {
		for _, m := range substitute {
			if strings.IndexByte("TDC", m.kind()) >= 0 { // RowDescription, DataRow, CommandComplete
				reply = append(reply, m)
			}
		}
		return reply
	}
	rows := "0"
	for _, m := range substitute {
		var row pgproto3.DataRow
		if m.kind() == 'D' && row.Decode(m.body()) == nil && len(row.Values) == 1 {
			rows = string(row.Values[0])
		}
	}
	tag := st.Verb + " " + rows
	if st.Verb == "INSERT" {
		tag = "INSERT 0 " + rows
	}
	return []message{encode(&pgproto3.CommandComplete{CommandTag: []byte(tag)})}
}
