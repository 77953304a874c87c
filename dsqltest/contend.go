package dsqltest

import (
	"bytes"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// ownName is the name of the statement and of the portal that are not the client's.
const ownName = "dsqltest"

// lockTimeout is how long the engine waits for a lock. Whoever waits for one has met
// a conflict; what is locked for a moment only, such as the end of a table that two
// write to, is to be had within it.
const lockTimeout = "20ms"

// contend carries out a Write or a Lock of a transaction. At DSQL none waits for
// another, and the loser learns of it at COMMIT: so a statement that cannot have its
// rows is undone, answered as though it had been done, and the transaction is doomed.
// Where the answer cannot be made up, the statement fails. instead asks for the
// answer.
func (v *conversation) contend(st *dialect.Statement, execute func(), instead func() []message) bool {
	v.savepoint()
	answers := v.collect(st, execute)
	if !lost(answers) {
		return v.forward(answers)
	}
	v.command("ROLLBACK TO " + ownName)
	if st.Instead != "" {
		if answers := instead(); !failed(answers) {
			v.tx.doomed = true
			return v.forward(madeUp(st, answers))
		}
	}
	v.ask(refusedColumn) // ends the transaction
	v.say(conflict(dataConflict))
	return false
}

// savepoint makes a place to go back to. It sends only: what follows is answered
// after it.
func (v *conversation) savepoint() {
	if v.tx.savepoint {
		v.sendCommand("RELEASE " + ownName)
	}
	v.sendCommand("SAVEPOINT " + ownName)
	v.tx.savepoint = true
}

// command runs a statement without parameters that the client did not send. Unlike
// ask, it leaves the client's unnamed statement and portal alone.
func (v *conversation) command(sql string) {
	x := v.sendCommand(sql)
	_ = v.engine.w.Flush()
	<-x.done
}

func (v *conversation) sendCommand(sql string) *exchange {
	x := v.push(&exchange{take: func(message) bool { return true }})
	v.sendOwn(&pgproto3.Parse{Query: sql}, &pgproto3.Bind{})
	return x
}

// sendOwn prepares, binds and executes a statement that is not the client's. What the
// last one left is closed first, as it is not if it failed.
func (v *conversation) sendOwn(parse *pgproto3.Parse, bind *pgproto3.Bind) {
	parse.Name, bind.PreparedStatement, bind.DestinationPortal = ownName, ownName, ownName
	v.engine.send(&pgproto3.Close{ObjectType: 'P', Name: ownName})
	v.engine.send(&pgproto3.Close{ObjectType: 'S', Name: ownName})
	v.engine.send(parse)
	v.engine.send(bind)
	v.engine.send(&pgproto3.Execute{Portal: ownName})
	v.engine.send(&pgproto3.Sync{})
}

// executeInstead asks what a portal would answer, with its own parameters.
func (v *conversation) executeInstead(p portal) []message {
	var bind pgproto3.Bind
	if err := bind.Decode(p.bind.body()); err != nil {
		return []message{encode(conflict(dataConflict))}
	}
	var described pgproto3.ParameterDescription
	for _, m := range v.collect(nil, func() {
		v.engine.send(&pgproto3.Describe{ObjectType: 'S', Name: bind.PreparedStatement})
		v.engine.send(&pgproto3.Sync{})
	}) {
		if m.kind() == 't' {
			_ = described.Decode(m.body())
		}
	}
	if p.statement.Kind == dialect.Write {
		bind.ResultFormatCodes = nil // a number, in text
	}
	return v.collect(nil, func() {
		v.sendOwn(&pgproto3.Parse{Query: p.statement.Instead, ParameterOIDs: described.ParameterOIDs}, &bind)
	})
}

// madeUp is the answer that st would have had, by the answer of what was asked in
// its place.
func madeUp(st *dialect.Statement, answers []message) (made []message) {
	rows := "0"
	for _, m := range answers {
		switch {
		case st.Kind == dialect.Lock && strings.IndexByte("TDC", m.kind()) >= 0:
			made = append(made, m)
		case m.kind() == 'D':
			var row pgproto3.DataRow
			if row.Decode(m.body()) == nil && len(row.Values) == 1 {
				rows = string(row.Values[0])
			}
		}
	}
	if st.Kind == dialect.Lock {
		return made
	}
	tag := st.Verb + " " + rows
	if st.Verb == "INSERT" {
		tag = "INSERT 0 " + rows
	}
	return []message{encode(&pgproto3.CommandComplete{CommandTag: []byte(tag)})}
}

// lost reports whether a statement met another transaction.
func lost(answers []message) bool {
	return slices.ContainsFunc(answers, func(m message) bool {
		return m.kind() == 'E' && isConflict(m) && bytes.Contains(m, []byte("(OC000)"))
	})
}

func failed(answers []message) bool {
	return slices.ContainsFunc(answers, func(m message) bool { return m.kind() == 'E' })
}
