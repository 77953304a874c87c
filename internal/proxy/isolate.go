package proxy

import (
	"regexp"

	"github.com/jackc/pgx/v5/pgproto3"
)

// isolate continues a transaction with copies of the tables that it writes, with the rows that its
// snapshot shows. They are temporary and hide the tables; they end with the transaction. A
// transaction that was only blocked by a statement in execution may still commit: see takeBack.
func (s *session) isolate(t trouble) {
	s.rollbackToSavepoint()
	s.tx.isolated = true
	s.tx.lost = s.tx.lost || t == conflict
	s.tx.copies = nil
	for _, w := range s.tx.log {
		s.copyTables(w.statement.SQL)
		s.collect(nil, func() { w.send(s, s.tx.inCopies(w.statement.SQL)) })
	}
}

// copyTables copies the tables that a statement names, unless they have been copied.
func (s *session) copyTables(sql string) {
	s.proxy.copySlots <- struct{}{}
	defer func() { <-s.proxy.copySlots }()
	for _, m := range s.call("SELECT * FROM sys.copy_tables($1, $2, $3, $4, $5)", s.proxy.tables.of(s.proxy, sql)...) {
		var row pgproto3.DataRow
		if m.kind() == 'D' && row.Decode(m.body()) == nil && len(row.Values) == 2 {
			s.tx.copies = append(s.tx.copies, copiedName(string(row.Values[0]), string(row.Values[1])))
		}
	}
}

// markLocked has the rows that the transaction has locked FOR UPDATE conflict with transactions
// that began before its end: PostgreSQL forgets locks. It returns false if it fails.
func (s *session) markLocked() bool {
	return s.tx.locked == "" || !hasError(s.call("SELECT sys.mark_locked($1, $2, $3)", s.proxy.tables.of(s.proxy, s.tx.locked)[:3]...))
}

// call executes a query that the client did not send.
func (s *session) call(sql string, arguments ...[]byte) []message {
	return s.collect(nil, func() {
		s.sendPrepared(&pgproto3.Parse{Query: sql}, &pgproto3.Bind{Parameters: arguments}, false)
	})
}

// copiedName matches the qualified name of a table that has been copied.
func copiedName(schema, table string) *regexp.Regexp {
	part := func(name string) string {
		return `(?:\b` + regexp.QuoteMeta(name) + `\b|"` + regexp.QuoteMeta(name) + `")`
	}
	return regexp.MustCompile(`(?i)` + part(schema) + `\s*\.\s*(` + part(table) + `)`)
}

// inCopies returns a statement with the names of copies in place of qualified names of tables.
func (t *transaction) inCopies(sql string) string {
	for _, name := range t.copies {
		sql = name.ReplaceAllString(sql, "pg_temp.$1")
	}
	return sql
}
