package dialect

import "strings"

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

// rewriteTable writes storage modes as every version of PostgreSQL accepts them: those before
// 16 have neither STORAGE in the definition of a column nor STORAGE DEFAULT. TRIGGER ALL
// becomes USER, as the cluster's own triggers must stay enabled.
func (s source) rewriteTable(st *Statement) {
	var edits []edit
	for _, element := range elements(s.ts) {
		if _, column := name(element); len(column) > 0 {
			if clause := afterType(column); has(clause, "storage") && len(clause) > 1 {
				edits = append(edits, edit{clause[0].start, clause[1].end, ""})
			}
		}
	}
	for _, action := range actions(s.ts) {
		if definition, ok := match(action, "add column? if? not? exists?"); ok {
			_, column := name(definition)
			clause := afterType(column)
			if !has(clause, "storage") || len(clause) < 2 {
				continue
			}
			mode := ""
			if !clause[1].is("default") {
				mode = ", ALTER COLUMN " + s.text(definition[:1]) + " SET STORAGE " + clause[1].text
			}
			edits = append(edits, edit{clause[0].start, clause[1].end, mode})
		} else if rest, ok := match(action, "alter column? NAME set"); ok && fits(rest, "storage default") {
			edits = append(edits, edit{rest[0].start, rest[1].end, "STATISTICS -1"}) // changes nothing
		} else if fits(action, "enable|disable trigger all") {
			edits = append(edits, edit{action[2].start, action[2].end, "USER"}) // not those of the engine
		}
	}
	if len(edits) > 0 {
		st.SQL = s.edited(edits)
	}
}

// withCatalogName gives CURRENT_CATALOG the name that DSQL's one database has: it is no
// function that the engine could have another of.
func withCatalogName(sql string, ts []token) string {
	var edits []edit
	clause := "" // that begins last
	for i, t := range ts {
		if t.depth == 0 && followedBy(ts[i:], "select", "from", "where", "group", "having", "order", "window", "limit", "values", "set") {
			clause = t.text
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
