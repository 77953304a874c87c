package dialect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-dsql/dsql/internal/params"
)

var settingRules = []Rule{
	special("SET TRANSACTION with another isolation level", "Unsupported isolation level: SERIALIZABLE", Recorded, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", refuseSet),
	special("SET TRANSACTION", `setting configuration parameter "TRANSACTION" not supported`, Recorded, "SET TRANSACTION READ ONLY", refuseSet),
	special("SET of default_transaction_isolation", `setting configuration parameter "default_transaction_isolation" not supported`, Recorded, "SET default_transaction_isolation = 'serializable'", refuseSet),
	special("SET of statement_timeout and others", `setting configuration parameter "statement_timeout" not supported`, Observed, "SET statement_timeout = 1000", refuseSet),
	special("SET ROLE outside of SET LOCAL", `setting configuration parameter "role" not supported`, Observed, "SET ROLE app", refuseSet),
	begins("SHOW lc_collate", "show lc_collate", `unrecognized configuration parameter "lc_collate"`, Recorded, "SHOW lc_collate").withCode("42704", ""),
	special("SET SESSION CHARACTERISTICS, other than READ ONLY and READ WRITE", "Unsupported isolation level: SERIALIZABLE", Unverified, "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", refuseSet),
}

// spelled lists parameters that SET has its own syntax for, by the names that DSQL prints. SET
// CONSTRAINTS sets none.
var spelled = []struct{ words, name string }{
	{"transaction", "TRANSACTION"},
	{"session characteristics", "SESSION CHARACTERISTICS"},
	{"session authorization", "session_authorization"},
	{"time zone", "timezone"},
	{"names", "client_encoding"},
	{"schema", "search_path"},
	{"xml option", "xmloption"},
	{"constraints", ""},
}

// setting returns the parameter that SET sets, and what follows it. It is empty for other
// statements.
func setting(ts []token) (name string, local bool, rest []token) {
	rest, ok := match(ts, "set")
	if !ok {
		return "", false, nil
	}
	if after, ok := match(rest, "local"); ok {
		local, rest = true, after
	} else if after, ok := match(rest, "session"); ok && !followedBy(after, "authorization", "characteristics") {
		rest = after
	}
	for _, s := range spelled {
		if after, ok := match(rest, s.words); ok {
			return s.name, local, after
		}
	}
	for i, t := range rest {
		if i > 0 && !t.is(".") && !rest[i-1].is(".") { // = or TO, or the value of SET ROLE
			return name, local, rest[i:]
		}
		name += t.text
	}
	return name, local, nil
}

// Resets returns the statements that end what a string of statements sets for the session. It
// returns none if they set nothing, or only for a transaction.
func Resets(sql string) (statements []string) {
	for _, ts := range split(scan(sql)) {
		if _, ok := match(ts, "reset"); ok {
			statements = append(statements, source{sql, ts}.text(ts)) // so that it counts as a change
			continue
		}
		name, local, _ := setting(ts)
		switch {
		case name == "", local, name == "TRANSACTION", name == "session_authorization": // DSQL allows only DEFAULT, which is what RESET sets
		case name == "SESSION CHARACTERISTICS":
			statements = append(statements, "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
		default:
			statements = append(statements, "RESET "+name)
		}
	}
	return statements
}

func followedBy(ts []token, words ...string) bool {
	return len(ts) > 0 && ts[0].kind == word && slices.Contains(words, ts[0].text)
}

// unnamedSettings lists the forms of SET that DSQL accepts and that name no parameter.
var unnamedSettings = []string{
	"set session characteristics as transaction read only|write", "set session? authorization default",
}

func refuseSet(ts []token) string {
	name, local, rest := setting(ts)
	if name == "" || name == "role" && local || fitsAny(ts, unnamedSettings) {
		return ""
	}
	if name == strings.ToUpper(name) { // TRANSACTION
		if message := refuseIsolation(rest); message != "" {
			return message
		}
	}
	if params.IsSettable(name) {
		return ""
	}
	return params.RefusalMessage(name)
}

// refuseIsolation refuses isolation levels in the modes of a transaction.
func refuseIsolation(ts []token) string {
	i := find(ts, 0, "isolation level")
	if i < 0 {
		return ""
	}
	level := ts[i+2:]
	if len(level) == 0 || has(level, "repeatable read") {
		return ""
	}
	name := level[0].text
	if name == "read" && len(level) > 1 {
		name += " " + level[1].text
	}
	return "Unsupported isolation level: " + strings.ToUpper(name)
}

// refuseSetConfig prints the parameter, if it is a constant.
func refuseSetConfig(ts []token) string {
	for i := range ts {
		if i+2 >= len(ts) || !ts[i].isName() || ts[i].text != "set_config" || !ts[i+1].is("(") || isNamed(ts[:i]) {
			continue
		}
		name := "set_config"
		if ts[i+2].kind == literal {
			name = ts[i+2].text
		}
		return fmt.Sprintf("setting configuration parameter %q not supported", name)
	}
	return ""
}

// rewriteSetting gives a parameter that only DSQL has a name that PostgreSQL takes.
func (s source) rewriteSetting(st *Statement) {
	for i, t := range s.ts {
		if st.Kind == Setting && i > 0 && t.is("disable_sync_create_index") {
			st.SQL = s.sql[s.ts[0].start:t.start] + "dsql." + s.sql[t.start:s.ts[len(s.ts)-1].end]
			return
		}
	}
}
