package dialect

import (
	"fmt"
	"slices"
	"strings"
)

// edit replaces a part of a statement's text.
type edit struct {
	start, end int
	text       string
}

// edited returns the statement with its edits, which are in order.
func (s source) edited(edits []edit) string {
	var b strings.Builder
	at := s.ts[0].start
	for _, e := range edits {
		b.WriteString(s.sql[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(s.sql[at:s.ts[len(s.ts)-1].end])
	return b.String()
}

// rewriteTable turns storage modes into comments, which sys.set_storage reads: PostgreSQL before 16 has
// neither STORAGE in the definition of a column nor STORAGE DEFAULT. TRIGGER ALL becomes USER, as the
// cluster's own triggers must stay enabled.
func (s source) rewriteTable(st *Statement) {
	var edits []edit
	for _, column := range columns(s.ts) {
		column, definition := name(column)
		if clause := afterType(definition); has(clause, "storage") && len(clause) > 1 {
			edits = append(edits, edit{clause[0].start, clause[1].end, storage(column, clause[1].text)})
		}
	}
	for _, action := range actions(s.ts) {
		if rest, ok := match(action, "alter column? NAME set"); ok && fits(rest, "storage default") {
			column, _ := name(action[len(action)-len(rest)-2:])
			edits = append(edits, edit{rest[0].start, rest[1].end, "STATISTICS -1 " + storage(column, "default")})
		} else if fits(action, "enable|disable trigger all") {
			edits = append(edits, edit{action[2].start, action[2].end, "USER"}) // not those of the engine
		}
	}
	if len(edits) > 0 {
		slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
		st.SQL = s.edited(edits)
	}
}

// storage returns the comment that stands for a column's storage mode.
func storage(column, mode string) string { return fmt.Sprintf("/*storage %x %s*/", column, mode) }

// withCatalogName gives CURRENT_CATALOG the name that DSQL's one database has: it is no
// function that the engine could have another of. Before the schema of a table, that name is
// removed, as the engine's database has another.
func withCatalogName(sql string, ts []token) string {
	var edits []edit
	clause := "" // that begins last
	for i, t := range ts {
		if t.depth == 0 && followedBy(ts[i:], "select", "from", "where", "group", "having", "order", "window", "limit", "values", "set") {
			clause = t.text
		}
		if namesDatabase(ts, i) {
			edits = append(edits, edit{t.start, ts[i+1].end, ""})
			continue
		}
		if !t.is("current_catalog") || i > 0 && (ts[i-1].is(".") || ts[i-1].is("as")) {
			continue
		}
		text := "current_database()"
		alone := clause == "select" && (ts[i-1].is("select") || ts[i-1].is(",")) && t.depth == 0
		if alone && (i+1 == len(ts) || ts[i+1].is(",") || ts[i+1].is(";") || ts[i+1].is("from")) {
			text += " AS current_catalog"
		}
		edits = append(edits, edit{t.start, t.end, text})
	}
	if len(edits) == 0 {
		return sql
	}
	return sql[:ts[0].start] + source{sql, ts}.edited(edits) + sql[ts[len(ts)-1].end:]
}
