package dialect

import (
	"fmt"
	"slices"
	"strings"
)

// tableRules apply to CREATE TABLE:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/create-table-syntax-support.html
var tableRules = []Rule{
	special("CREATE TABLE AS", createTableAs, Recorded, "CREATE TABLE x AS SELECT 1 AS n", when(createTableAs, func(ts []token) bool {
		rest, ok := match(ts, "create table if? not? exists? NAME ()?")
		return ok && (followedBy(rest, "as") || find(rest, 0, "as select|with|values|table|execute") >= 0)
	})),
	special("CREATE TABLE PARTITION BY", "PARTITION BY clause not supported for CREATE TABLE", Observed, "CREATE TABLE x (id int) PARTITION BY RANGE (id)", refuseTableClause),
	example("CREATE TABLE PARTITION OF", "PARTITION OF clause not supported for CREATE TABLE", Observed, "CREATE TABLE x PARTITION OF t DEFAULT"),
	example("CREATE TABLE INHERITS", "INHERITS clause not supported for CREATE TABLE", Unverified, "CREATE TABLE x (n int) INHERITS (t)"),
	example("CREATE TABLE WITH storage parameters", "WITH clause not supported for CREATE TABLE", Unverified, "CREATE TABLE x (id int) WITH (fillfactor = 70)"),
	example("CREATE TABLE TABLESPACE", "TABLESPACE clause not supported for CREATE TABLE", Unverified, "CREATE TABLE x (id int) TABLESPACE s"),
	example("CREATE TABLE ON COMMIT", "ON COMMIT clause not supported for CREATE TABLE", Unverified, "CREATE TABLE x (id int) ON COMMIT DROP"),
	example("CREATE TABLE USING", "USING clause not supported for CREATE TABLE", Unverified, "CREATE TABLE x (id int) USING heap"),
	example("CREATE TABLE OF a type", "OF clause not supported for CREATE TABLE", Unverified, "CREATE TABLE x OF pair"),
	special("a column of serial", `type "serial" does not exist`, Recorded, "CREATE TABLE x (id serial)", refuseSerial).withCode("42704", ""),
	special("a column with COLLATE", noCollate, Observed, `CREATE TABLE x (s text COLLATE "C")`, refuseElements),
	example("a column with COMPRESSION", "COMPRESSION clause not supported", Unverified, "CREATE TABLE x (s text COMPRESSION pglz)"),
	example("EXCLUDE", "EXCLUDE constraint not supported", Unverified, "CREATE TABLE x (id int, EXCLUDE (id WITH =))"),
	example("CHECK NO INHERIT", "NO INHERIT constraint not supported", Unverified, "CREATE TABLE x (id int CHECK (id > 0) NO INHERIT)"),
	example("LIKE INCLUDING STORAGE or COMPRESSION", "unsupported option in LIKE clause", Unverified, "CREATE TABLE x (LIKE t INCLUDING STORAGE)"),
	example("a key with storage parameters or a tablespace", "unsupported clause in constraint", Unverified, "CREATE TABLE x (id int PRIMARY KEY WITH (fillfactor = 70))"),
}

const noCollate = "COLLATE clause not supported"

// refuseTableClause refuses clauses after the columns.
func refuseTableClause(ts []token) string {
	rest, ok := match(ts, "create table if? not? exists? NAME")
	if !ok {
		return ""
	}
	rest, _ = match(rest, "()?")
	rest, _ = match(rest, "without? oids?")
	for _, clause := range []string{"partition by", "partition of", "inherits", "with", "tablespace", "on commit", "using", "of"} {
		if has(rest, clause) {
			return strings.ToUpper(clause) + " clause not supported for CREATE TABLE"
		}
	}
	return ""
}

// elements returns the columns and constraints of CREATE TABLE.
func elements(ts []token) [][]token {
	rest, ok := match(ts, "create table if? not? exists? NAME")
	if held := inside(rest); ok && len(held) > 0 {
		return list(held, held[0].depth)
	}
	return nil
}

// columns returns the definitions of columns in CREATE TABLE and ALTER TABLE ADD COLUMN.
func columns(ts []token) [][]token {
	added := elements(ts)
	for _, action := range actions(ts) {
		if rest, ok := match(action, "add column? if? not? exists?"); ok {
			added = append(added, rest)
		}
	}
	return added
}

var serials = []string{"serial", "serial2", "serial4", "serial8", "smallserial", "bigserial"}

func refuseSerial(ts []token) string {
	for _, column := range columns(ts) {
		if len(column) > 1 && column[0].isName() && column[1].isName() && slices.Contains(serials, column[1].text) &&
			(len(column) == 2 || !column[2].is(".")) {
			return fmt.Sprintf("type %q does not exist", column[1].text)
		}
	}
	return ""
}

// tableConstraints lists the forms of a table's constraints. A foreign key may have all of
// PostgreSQL's clauses.
var tableConstraints = []string{
	"check ()",
	"unique nulls? not? distinct? () include? ()? not? deferrable? initially? deferred|immediate?",
	"primary key () include? ()? not? deferrable? initially? deferred|immediate?",
	"foreign key () references ...",
}

func refuseElements(ts []token) string {
	for _, element := range elements(ts) {
		rest, _ := match(element, "constraint? NAME?")
		if has(element, "check|unique|primary|foreign|exclude|like") {
			rest = element
		} else if !has(element, "constraint") {
			_, rest = name(element)
			if message := refuseColumn(rest); message != "" {
				return message
			}
			continue
		}
		if message := refuseTableElement(rest); message != "" {
			return message
		}
	}
	return ""
}

func refuseTableElement(ts []token) string {
	switch {
	case has(ts, "like"):
		rest, _ := match(ts, "like NAME")
		for len(rest) > 0 {
			after, ok := match(rest, "including|excluding comments|constraints|defaults|generated|identity|indexes|statistics|all")
			if !ok {
				return "unsupported option in LIKE clause"
			}
			rest = after
		}
		return ""
	case has(ts, "exclude"):
		return "EXCLUDE constraint not supported"
	case fitsAny(ts, tableConstraints):
		return ""
	case has(ts, "check () no inherit"):
		return "NO INHERIT constraint not supported"
	case has(ts, "check|unique|primary"):
		return "unsupported clause in constraint"
	}
	return ""
}

// columnConstraints lists the forms of a column's clauses.
var columnConstraints = []string{
	"storage plain|external|extended|main|default", "constraint NAME", "not? null", "check ()",
	"unique nulls not? distinct include? ()?", "unique include? ()?", "primary key include? ()?",
	"generated always as () stored", "generated always|by default? as identity ()?", "references NAME ()?",
	"match full|partial|simple", "on delete|update no? action|restrict|cascade", "on delete|update set null|default ()?",
	"not? deferrable", "initially deferred|immediate",
}

// refuseColumn refuses what follows the name of a column.
func refuseColumn(ts []token) string {
	rest := afterType(ts)
next:
	for len(rest) > 0 {
		for _, form := range columnConstraints {
			if after, ok := match(rest, form); ok {
				rest = after
				continue next
			}
		}
		switch {
		case has(rest, "default"):
			rest = afterDefault(rest)
		case has(rest, "collate"):
			return noCollate
		case has(rest, "compression"):
			return "COMPRESSION clause not supported"
		case has(rest, "no inherit"):
			return "NO INHERIT constraint not supported"
		case has(rest, "with|using|options"):
			return "unsupported clause in constraint"
		default:
			return "" // PostgreSQL reports the syntax error
		}
	}
	return ""
}

// afterDefault returns what follows DEFAULT and its expression.
func afterDefault(ts []token) []token {
	for i := 2; i < len(ts); i++ {
		if ts[i].depth == ts[0].depth && followedBy(ts[i:], columnClauses...) {
			return ts[i:]
		}
	}
	return nil
}
