package dialect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Source is how well an answer is known.
type Source string

// Sources, the best first.
const (
	Recorded   Source = "recorded"   // from a real cluster
	Observed   Source = "observed"   // told by those who saw it
	Documented Source = "documented" // by AWS
	Guessed    Source = "guess"      // refused, in words that nobody has written down
)

// Rule is a kind of statement that DSQL refuses, with an example and its answer.
type Rule struct {
	Statement string
	Message   string // that the example is answered with
	Source    Source
	Example   string
	Code      string // SQLSTATE
	Hint      string
	refuse    func(ts []token) (message string) // empty: not refused
}

// Rules are all refusals that a statement's words decide, in the order in which
// they are looked at.
func Rules() []Rule { return slices.Clone(rules) }

var rules = slices.Concat(statementRules, transactionRules, settingRules, tableRules, sequenceRules, indexRules, expressionRules)

// refusal is why DSQL refuses a statement, or nil.
func refusal(ts []token) *Refusal {
	for _, rule := range rules {
		if message := rule.refuse(ts); message != "" {
			return &Refusal{Code: rule.Code, Message: message, Hint: rule.Hint}
		}
	}
	return nil
}

// begins is a rule for statements that begin with the words of a pattern.
func begins(statement, pattern, message string, source Source, example string) Rule {
	return special(statement, message, source, example, func(ts []token) string {
		if has(ts, pattern) {
			return message
		}
		return ""
	})
}

// special is a rule for what a pattern cannot tell.
func special(statement, message string, source Source, example string, refuse func([]token) string) Rule {
	return Rule{Statement: statement, Message: message, Source: source, Example: example, Code: "0A000", refuse: refuse}
}

func (r Rule) withCode(code, hint string) Rule {
	r.Code, r.Hint = code, hint
	return r
}

// when is a refuse function for a condition.
func when(message string, condition func(ts []token) bool) func([]token) string {
	return func(ts []token) string {
		if condition(ts) {
			return message
		}
		return ""
	}
}

const createTableAs = "unsupported statement: CreateTableAs"

var statementRules = []Rule{
	begins("TRUNCATE", "truncate", "unsupported statement: Truncate", Recorded, "TRUNCATE t"),
	begins("CREATE EXTENSION", "create extension", "unsupported statement: CreateExtension", Recorded, "CREATE EXTENSION hstore"),
	begins("CREATE TRIGGER", "create or? replace? constraint? trigger", "CREATE TRIGGER not supported", Recorded, "CREATE TRIGGER g BEFORE INSERT ON t EXECUTE FUNCTION f()"),
	begins("CREATE DATABASE", "create database", "unsupported statement: Createdb", Recorded, "CREATE DATABASE d"),
	begins("CREATE TEMPORARY TABLE", "create global|local? temp|temporary table", "TEMPORARY or TEMP table not supported for CREATE TABLE", Recorded, "CREATE TEMP TABLE x (id int)"),
	begins("CREATE UNLOGGED TABLE", "create unlogged table", "UNLOGGED table not supported for CREATE TABLE", Recorded, "CREATE UNLOGGED TABLE x (id int)"),
	begins("CREATE MATERIALIZED VIEW", "create materialized view", createTableAs, Recorded, "CREATE MATERIALIZED VIEW m AS SELECT 1 AS n"),
	special("CREATE TABLE AS", createTableAs, Recorded, "CREATE TABLE x AS SELECT 1 AS n", when(createTableAs, func(ts []token) bool {
		return has(ts, "create table") && find(ts, 0, "as") >= 0
	})),
	special("SELECT INTO", createTableAs, Guessed, "SELECT 1 AS n INTO x", when(createTableAs, func(ts []token) bool {
		return has(ts, "select") && find(ts, 0, "into") >= 0
	})),
	special("CREATE TYPE AS ENUM", "CREATE TYPE not supported", Recorded, "CREATE TYPE mood AS ENUM ('sad', 'ok')", refuseCreateType),
	special("CREATE TYPE, composite", "unsupported statement: CompositeType", Recorded, "CREATE TYPE pair AS (a int, b int)", refuseCreateType),
	special("CREATE TYPE AS RANGE", "unsupported statement: CreateRange", Recorded, "CREATE TYPE span AS RANGE (subtype = int)", refuseCreateType),
	special("ALTER TYPE RENAME TO", "unsupported object in RENAME statement", Recorded, "ALTER TYPE mood RENAME TO humour", when("unsupported object in RENAME statement", func(ts []token) bool {
		return has(ts, "alter type") && find(ts, 0, "rename to") >= 0
	})),
	begins("ALTER TYPE", "alter type", "ALTER TYPE not supported", Recorded, "ALTER TYPE mood ADD VALUE 'glad'"),
	begins("DROP TYPE", "drop type", "unsupported object in DROP statement", Recorded, "DROP TYPE mood"),
	begins("CREATE TABLESPACE", "create tablespace", "unsupported statement: CreateTableSpace", Recorded, "CREATE TABLESPACE s LOCATION '/tmp'"),
	begins("CREATE FOREIGN TABLE", "create foreign table", "unsupported statement: CreateForeignTable", Recorded, "CREATE FOREIGN TABLE f (id int) SERVER s"),
	begins("VACUUM", "vacuum", "unsupported VACUUM statement", Recorded, "VACUUM t"),
	begins("LISTEN", "listen", "unsupported statement: Listen", Recorded, "LISTEN c"),
	begins("NOTIFY", "notify", "unsupported statement: Notify", Recorded, "NOTIFY c"),
	begins("UNLISTEN", "unlisten", "unsupported statement: Unlisten", Recorded, "UNLISTEN *"),
	begins("ALTER SYSTEM", "alter system", "unsupported statement: AlterSystem", Recorded, "ALTER SYSTEM SET work_mem = '1MB'"),
	special("CREATE FUNCTION in plpgsql", "CREATE FUNCTION with language plpgsql not supported", Recorded, "CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", refuseLanguage),
	begins("CREATE PROCEDURE", "create or? replace? procedure", "PROCEDURE is not supported", Observed, "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'"),
	begins("LOCK TABLE", "lock", "unsupported statement: Lock", Observed, "LOCK TABLE t"),
	special("MERGE", "unsupported statement type: MERGE", Recorded, "MERGE INTO t USING t AS s ON s.id = t.id WHEN MATCHED THEN DELETE", when("unsupported statement type: MERGE", func(ts []token) bool {
		return has(ts, "merge") || has(ts, "with") && find(ts, 0, "merge into") > 0
	})),
	begins("PREPARE", "prepare", "unsupported statement: Prepare", Guessed, "PREPARE p AS SELECT 1"),
	begins("EXECUTE", "execute", "unsupported statement: Execute", Guessed, "EXECUTE p"),
	begins("DO", "do", "unsupported statement: Do", Guessed, "DO 'BEGIN END'"),
	special("DROP DOMAIN CASCADE", "DROP DOMAIN with CASCADE unsupported", Observed, "DROP DOMAIN d CASCADE", when("DROP DOMAIN with CASCADE unsupported", func(ts []token) bool {
		return has(ts, "drop domain") && find(ts, 0, "cascade") > 0
	})),
	special("GRANT of the role admin", "Role admin not supported", Guessed, "GRANT admin TO app", when("Role admin not supported", func(ts []token) bool {
		return has(ts, "grant admin")
	})),
}

func refuseCreateType(ts []token) string {
	rest, ok := match(ts, "create type")
	if !ok {
		return ""
	}
	_, rest = name(rest)
	switch {
	case has(rest, "as range"):
		return "unsupported statement: CreateRange"
	case len(rest) > 1 && rest[0].is("as") && rest[1].is("("):
		return "unsupported statement: CompositeType"
	}
	return "CREATE TYPE not supported"
}

func refuseLanguage(ts []token) string {
	if !isRoutine(ts) || has(ts, "create or? replace? procedure") {
		return ""
	}
	i := find(ts, 0, "language")
	if i < 0 || i+1 >= len(ts) || strings.EqualFold(ts[i+1].text, "sql") {
		return ""
	}
	return fmt.Sprintf("CREATE FUNCTION with language %s not supported", ts[i+1].text)
}

var transactionRules = []Rule{
	begins("SAVEPOINT", "savepoint", "unsupported transaction statement: SAVEPOINT", Recorded, "SAVEPOINT s"),
	begins("ROLLBACK TO", "rollback|abort work|transaction? to", "unsupported transaction statement: ROLLBACK TO", Recorded, "ROLLBACK TO s"),
	begins("RELEASE", "release", "unsupported transaction statement: RELEASE", Guessed, "RELEASE s"),
	special("BEGIN with another isolation level", "Unsupported isolation level: SERIALIZABLE", Recorded, "BEGIN ISOLATION LEVEL SERIALIZABLE", func(ts []token) string {
		if has(ts, "begin") || has(ts, "start transaction") {
			return refuseIsolation(ts)
		}
		return ""
	}),
}

// tableRules are for columns and constraints.
var tableRules = []Rule{
	special("a column of serial", `type "serial" does not exist`, Recorded, "CREATE TABLE x (id serial)", refuseSerial).withCode("42704", ""),
	special("ALTER TABLE ADD COLUMN with a constraint", addColumn, Recorded, "ALTER TABLE t ADD COLUMN c int DEFAULT 0", refuseAlterTable),
	special("ALTER TABLE SET DATA TYPE", setDataType, Recorded, "ALTER TABLE t ALTER COLUMN n TYPE bigint", refuseAlterTable),
	special("ALTER TABLE SET NOT NULL", setNotNull, Observed, "ALTER TABLE t ALTER n SET NOT NULL", refuseAlterTable),
	special("ALTER TABLE ADD CONSTRAINT, validated", addConstraint, Recorded, "ALTER TABLE t ADD CHECK (n > 0)", refuseAlterTable),
	special("ALTER TABLE VALIDATE CONSTRAINT", validateConstraint, Recorded, "ALTER TABLE t VALIDATE CONSTRAINT c", refuseAlterTable),
}

const (
	addColumn          = "ALTER TABLE ADD COLUMN with constraint not supported"
	setDataType        = "unsupported ALTER TABLE ALTER COLUMN ... SET DATA TYPE statement"
	setNotNull         = "unsupported ALTER TABLE ALTER COLUMN ... SET NOT NULL statement"
	addConstraint      = "unsupported ALTER TABLE ADD CONSTRAINT statement"
	validateConstraint = "unsupported ALTER TABLE VALIDATE CONSTRAINT statement"
)

// columns are the definitions in CREATE TABLE and ALTER TABLE ADD COLUMN.
func columns(ts []token) [][]token {
	if rest, ok := match(ts, "create table if? not? exists?"); ok {
		_, rest = name(rest)
		return list(inside(rest), 1)
	}
	var added [][]token
	for _, action := range actions(ts) {
		if rest, ok := match(action, "add column? if? not? exists?"); ok {
			added = append(added, rest)
		}
	}
	return added
}

// actions are what an ALTER TABLE does.
func actions(ts []token) [][]token {
	rest, ok := match(ts, "alter table async? if? exists? only?")
	if !ok {
		return nil
	}
	_, rest = name(rest)
	if len(rest) > 0 && rest[0].is("*") {
		rest = rest[1:]
	}
	return list(rest, 0)
}

var serials = []string{"serial", "serial2", "serial4", "serial8", "smallserial", "bigserial"}

func refuseSerial(ts []token) string {
	for _, column := range columns(ts) {
		if len(column) > 1 && column[0].isName() && column[1].kind == word && slices.Contains(serials, column[1].text) {
			return fmt.Sprintf("type %q does not exist", column[1].text)
		}
	}
	return ""
}

func refuseAlterTable(ts []token) string {
	if has(ts, "alter table async") {
		return ""
	}
	for _, action := range actions(ts) {
		if message := refuseAction(action); message != "" {
			return message
		}
	}
	return ""
}

func refuseAction(action []token) string {
	switch {
	case has(action, "validate constraint"):
		return validateConstraint
	case has(action, "add constraint|primary|unique|check|foreign|exclude"):
		if find(action, 0, "not valid") >= 0 || find(action, 0, "unique using index") >= 0 {
			return ""
		}
		return addConstraint
	case has(action, "add"):
		column, _ := match(action, "add column? if? not? exists?")
		_, definition := name(column)
		if find(definition, 0, "default|unique|check|primary|references|generated|constraint") >= 0 || find(definition, 0, "not null") >= 0 {
			return addColumn
		}
	case has(action, "alter"):
		rest, _ := match(action, "alter column?")
		_, rest = name(rest)
		switch {
		case has(rest, "type"), has(rest, "set data type"):
			return setDataType
		case has(rest, "set not null"):
			return setNotNull
		}
	}
	return ""
}

// sequenceRules are for what needs an explicit cache size.
var sequenceRules = []Rule{
	special("CREATE SEQUENCE without CACHE", "CREATE SEQUENCE "+needsCache, Recorded, "CREATE SEQUENCE s", when("CREATE SEQUENCE "+needsCache, func(ts []token) bool {
		return has(ts, "create temp|temporary? sequence") && !hasCache(ts)
	})),
	special("an identity column without CACHE", "identity column "+needsCache, Recorded, "CREATE TABLE x (id bigint GENERATED ALWAYS AS IDENTITY)", when("identity column "+needsCache, func(ts []token) bool {
		for _, column := range columns(ts) {
			for i := range column {
				rest, ok := match(column[i:], "generated always|by default? as identity")
				if ok && !hasCache(inside(rest)) {
					return true
				}
			}
		}
		return false
	})),
}

const needsCache = "is not supported without an explicit cache size. please define CACHE greater than or equal to 65536 or equal to 1"

// hasCache reports whether there is a CACHE of a size that DSQL takes.
func hasCache(ts []token) bool {
	for i := range ts {
		if rest, ok := match(ts[i:], "cache"); ok && len(rest) > 0 {
			size, err := strconv.Atoi(rest[0].text)
			return err == nil && (size == 1 || size >= 65536)
		}
	}
	return false
}

var indexRules = []Rule{
	special("CREATE INDEX without ASYNC", "unsupported mode. please use CREATE INDEX ASYNC.", Recorded, "CREATE INDEX ON t (n)", when("unsupported mode. please use CREATE INDEX ASYNC.", func(ts []token) bool {
		return has(ts, "create unique? index") && !has(ts, "create unique? index async|concurrently")
	})),
	begins("CREATE INDEX CONCURRENTLY", "create unique? index async? concurrently", "CONCURRENTLY not supported for CREATE INDEX", Observed, "CREATE INDEX CONCURRENTLY ON t (n)"),
	special("CREATE INDEX USING", "USING not supported for CREATE INDEX", Observed, "CREATE INDEX ASYNC ON t USING btree (n)", when("USING not supported for CREATE INDEX", func(ts []token) bool {
		return has(ts, "create unique? index async") && find(ts, 0, "using") > 0
	})),
	special("an index with ASC or DESC", "specifying sort order not supported for index keys", Observed, "CREATE INDEX ASYNC ON t (n DESC)", when("specifying sort order not supported for index keys", func(ts []token) bool {
		return slices.ContainsFunc(keys(ts), func(key []token) bool { return find(key, 1, "asc|desc") >= 0 })
	})),
	special("an index with an operator class", "opclass not supported for index keys", Observed, "CREATE INDEX ASYNC ON t (n int4_ops)", when("opclass not supported for index keys", func(ts []token) bool {
		return slices.ContainsFunc(keys(ts), hasOperatorClass)
	})),
}

// keys are those of CREATE INDEX ASYNC.
func keys(ts []token) [][]token {
	rest, ok := match(ts, "create unique? index async")
	if !ok {
		return nil
	}
	for i, t := range rest {
		if t.is("(") {
			return list(inside(rest[i:]), 1)
		}
	}
	return nil
}

// hasOperatorClass reports whether a name follows a key, which is a column, a call
// or an expression in parentheses.
func hasOperatorClass(key []token) bool {
	_, rest := name(key)
	if held := inside(rest); held != nil || len(rest) > 0 && rest[0].is("(") {
		rest = rest[min(len(rest), len(held)+2):]
	}
	return len(rest) > 0 && rest[0].isName() && !followedBy(rest, "asc", "desc", "nulls", "collate")
}

// expressionRules are for what may stand anywhere in a statement.
var expressionRules = []Rule{
	special("FOR SHARE, FOR NO KEY UPDATE", lockingClauses, Recorded, "SELECT 1 FROM t FOR SHARE", refuseLockingClause),
	special("TABLESAMPLE", "TABLESAMPLE clause not supported", Recorded, "SELECT 1 FROM t TABLESAMPLE system (10)", anywhere("tablesample", "TABLESAMPLE clause not supported")),
	special("COLLATE", "COLLATE clause not supported", Observed, `SELECT 'a' COLLATE "C"`, anywhere("collate", "COLLATE clause not supported")),
	special("advisory locks", "function pg_advisory_lock not supported", Observed, "SELECT pg_advisory_lock(1)", call(func(f string) string {
		if strings.HasPrefix(f, "pg_advisory_") || strings.HasPrefix(f, "pg_try_advisory_") {
			return noFunction(f)
		}
		return ""
	})),
	special("pg_table_size", "function pg_table_size not supported", Guessed, "SELECT pg_table_size('t')", callOf("pg_table_size", noFunction)),
	special("inet_server_addr", "function inet_server_addr not supported", Guessed, "SELECT inet_server_addr()", callOf("inet_server_addr", noFunction)),
	special("inet_server_port", "function inet_server_port not supported", Guessed, "SELECT inet_server_port()", callOf("inet_server_port", noFunction)),
	special("line", "datatype line not supported", Recorded, "SELECT line(point(0, 0), point(1, 1))", callOf("line", noType)),
	special("circle", "datatype circle not supported", Recorded, "SELECT circle(point(0, 0), 1)", callOf("circle", noType)),
	special("sys.wait_for_job as a function", "sys.wait_for_job(text) is a procedure", Recorded, "SELECT sys.wait_for_job('x')", func(ts []token) string {
		if has(ts, "call") {
			return ""
		}
		return callOf("wait_for_job", func(string) string { return "sys.wait_for_job(text) is a procedure" })(ts)
	}).withCode("42809", "To call a procedure, use CALL."),
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

func anywhere(word, message string) func([]token) string {
	return when(message, func(ts []token) bool {
		return slices.ContainsFunc(ts, func(t token) bool { return t.is(word) })
	})
}

// beforeNames are words after which a name with a parenthesis is no call.
var beforeNames = []string{"table", "into", "exists", "references", "on", "view", "with", "recursive", "join", "from", "update", "function"}

// call looks at the names of functions that are called.
func call(refuse func(function string) string) func([]token) string {
	return func(ts []token) string {
		for i := 1; i < len(ts); i++ {
			if i > 1 && followedBy(ts[i-2:], beforeNames...) {
				continue
			}
			if ts[i].is("(") && ts[i-1].kind == word {
				if message := refuse(ts[i-1].text); message != "" {
					return message
				}
			}
		}
		return ""
	}
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
