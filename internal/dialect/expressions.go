package dialect

import (
	"fmt"
	"slices"
	"strings"
)

// clauseRules apply to clauses anywhere in a statement.
var clauseRules = []Rule{
	special("FOR SHARE, FOR NO KEY UPDATE", lockingClauses, Recorded, "SELECT 1 FROM t FOR SHARE", refuseLockingClause),
	special("TABLESAMPLE", "TABLESAMPLE clause not supported", Recorded, "SELECT 1 FROM t TABLESAMPLE system (10)", when("TABLESAMPLE clause not supported", func(ts []token) bool {
		for i, t := range ts { // the word is reserved, but for the name of a column after a dot or AS
			if t.is("tablesample") && i > 0 && !ts[i-1].is(".") && !ts[i-1].is("as") {
				return true
			}
		}
		return false
	})),
}

// callRules apply to calls of PostgreSQL's functions that DSQL does not have. catalog.sql of
// internal/postgres refuses them too, as SQL functions may call them.
var callRules = []Rule{
	special("set_config", `setting configuration parameter "search_path" not supported`, Observed, "SELECT set_config('search_path', 'app', false)", refuseSetConfig),
	special("advisory locks", "function pg_advisory_lock not supported", Observed, "SELECT pg_advisory_lock(1)", call(func(f string) string {
		if strings.HasPrefix(f, "pg_advisory_") || strings.HasPrefix(f, "pg_try_advisory_") {
			return noFunction(f)
		}
		return ""
	})),
	special("inet_server_addr", "function inet_server_addr not supported", Observed, "SELECT inet_server_addr()", callOf("inet_server_addr", noFunction)),
	special("inet_server_port", "function inet_server_port not supported", Observed, "SELECT inet_server_port()", callOf("inet_server_port", noFunction)),
	special("pg_notify", "function pg_notify not supported", Unverified, "SELECT pg_notify('c', 'x')", callOf("pg_notify", noFunction)),
	special("pg_export_snapshot", "function pg_export_snapshot not supported", Unverified, "SELECT pg_export_snapshot()", callOf("pg_export_snapshot", noFunction)),
	special("large objects", "function lo_create not supported", Unverified, "SELECT lo_create(0)", call(func(f string) string {
		if slices.Contains(largeObjects, f) {
			return noFunction(f)
		}
		return ""
	})),
	special("line", "datatype line not supported", Recorded, "SELECT line(point(0, 0), point(1, 1))", callOf("line", noType)),
	special("circle", "datatype circle not supported", Recorded, "SELECT circle(point(0, 0), 1)", callOf("circle", noType)),
	special("sys.wait_for_job as a function", "sys.wait_for_job(text) is a procedure", Recorded, "SELECT sys.wait_for_job('x')", func(ts []token) string {
		for i := range ts {
			if !has(ts, "call") && isCallOf(ts[i:], "sys", "wait_for_job") {
				return "sys.wait_for_job(text) is a procedure"
			}
		}
		return ""
	}).withCode("42809", "To call a procedure, use CALL."),
}

// largeObjects lists the functions on large objects.
var largeObjects = []string{
	"lo_close", "lo_creat", "lo_create", "lo_export", "lo_from_bytea", "lo_get", "lo_import", "lo_lseek", "lo_lseek64", "lo_open", "lo_put",
	"lo_tell", "lo_tell64", "lo_truncate", "lo_truncate64", "lo_unlink", "loread", "lowrite",
}

const lockingClauses = "locking clauses other than FOR UPDATE/FOR KEY SHARE are not supported"

func refuseLockingClause(ts []token) string {
	for i := range ts {
		if has(ts[i:], "for share") || has(ts[i:], "for no key update") {
			return lockingClauses
		}
	}
	return ""
}

// isCallOf reports whether tokens begin with a call of a schema's function.
func isCallOf(ts []token, schema, function string) bool {
	return len(ts) > 3 && ts[0].isName() && ts[0].text == schema && ts[1].is(".") &&
		ts[2].isName() && ts[2].text == function && ts[3].is("(")
}

// beforeNames lists words after which a name with a parenthesis is not a call.
var beforeNames = []string{"table", "into", "exists", "references", "on", "view", "with", "recursive", "join", "from", "update", "function", "constraint", "index", "include"}

// call refuses functions of PostgreSQL that are called, quoted or not, by the name
// alone or with its schema.
func call(refuse func(function string) string) func([]token) string {
	return func(ts []token) string {
		for i := 1; i < len(ts); i++ {
			if !ts[i].is("(") || !ts[i-1].isName() || isNamed(ts[:i-1]) {
				continue
			}
			if message := refuse(ts[i-1].text); message != "" {
				return message
			}
		}
		return ""
	}
}

// isNamed reports whether the name that follows tokens is not one of PostgreSQL's
// functions: of another schema, or of what is not a function.
func isNamed(before []token) bool {
	n := len(before)
	if n > 1 && before[n-1].is(".") {
		return before[n-2].text != "pg_catalog"
	}
	return n > 0 && followedBy(before[n-1:], beforeNames...)
}

func callOf(function string, message func(string) string) func([]token) string {
	return call(func(f string) string {
		if f == function {
			return message(f)
		}
		return ""
	})
}

func noFunction(name string) string { return fmt.Sprintf("function %s not supported", name) }

func noType(name string) string { return fmt.Sprintf("datatype %s not supported", name) }

// functionRules apply to CREATE FUNCTION.
var functionRules = []Rule{
	special("CREATE FUNCTION in plpgsql", "CREATE FUNCTION with language plpgsql not supported", Recorded, "CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", refuseLanguage),
	example("CREATE FUNCTION with a body that is refused", "unsupported statement: Truncate", Observed, "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'TRUNCATE t'"),
}

func refuseLanguage(ts []token) string {
	if !isRoutine(ts) {
		return ""
	}
	i := find(ts, 0, "language")
	if i < 0 || i+1 >= len(ts) || strings.EqualFold(ts[i+1].text, "sql") {
		return ""
	}
	return fmt.Sprintf("CREATE FUNCTION with language %s not supported", ts[i+1].text)
}

// body returns the statements of a function's body: a string, or BEGIN ATOMIC … END.
func body(ts []token) [][]token {
	if i := find(ts, 0, "begin atomic"); i >= 0 {
		return split(ts[i+2 : len(ts)-1])
	}
	for i := 1; i < len(ts); i++ {
		if ts[i].kind == literal && ts[i-1].is("as") && ts[i].depth == 0 {
			return split(scan(ts[i].text))
		}
	}
	return nil
}
