package dialect

import (
	"slices"
	"strings"
)

// Source classifies the evidence for an answer.
type Source string

// Sources, the best first.
const (
	Recorded   Source = "recorded"   // from a real cluster
	Observed   Source = "observed"   // reported by users
	Documented Source = "documented" // by AWS
	Unverified Source = "unverified" // no report of it being accepted; the message is inferred
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

// Rules returns all refusals that a statement's words decide, in the order in which
// they apply.
func Rules() []Rule { return slices.Clone(rules) }

// rules are checked in order. For CREATE TABLE, ALTER TABLE, CREATE INDEX and objects
// in general they are what is left when all that AWS publishes or users have
// observed is taken away.
var rules = slices.Concat(syntaxRules, callRules)

var syntaxRules = slices.Concat(statementRules, transactionRules, settingRules, createRules, alterRules, dropRules, privilegeRules,
	functionRules, tableRules, alterTableRules, sequenceRules, indexRules, clauseRules)

// refusal returns why DSQL refuses a statement, or nil.
func refusal(ts []token) *Refusal {
	applicable := rules
	if isRoutine(ts) {
		applicable = syntaxRules // what its body calls is refused when it is called
	}
	if r := refusedBy(applicable, ts); r != nil {
		return r
	}
	switch {
	case has(ts, "explain"):
		if explained := explainedBy(ts); len(explained) > 0 && !has(explained, "explain") {
			return refusal(explained)
		}
	case has(ts, "create schema"):
		for _, element := range schemaElements(ts[2:]) {
			if r := refusal(element); r != nil {
				return r
			}
		}
	case isRoutine(ts):
		// DSQL reads the body when it creates the function.
		for _, statement := range body(ts) {
			if r := refusedBy(syntaxRules, statement); r != nil {
				return r
			}
		}
	}
	return nil
}

func refusedBy(rules []Rule, ts []token) *Refusal {
	for _, rule := range rules {
		if message := rule.refuse(ts); message != "" {
			return &Refusal{Code: rule.Code, Message: message, Hint: rule.Hint}
		}
	}
	return nil
}

// schemaElements returns the statements within CREATE SCHEMA.
func schemaElements(ts []token) (elements [][]token) {
	start := find(ts, 0, "create|grant")
	for start >= 0 {
		ts = ts[start:]
		start = find(ts[1:], 0, "create|grant")
		if start < 0 {
			return append(elements, ts)
		}
		start++
		elements = append(elements, ts[:start])
	}
	return elements
}

// explainedBy returns the statement that EXPLAIN explains.
func explainedBy(ts []token) []token {
	rest, _ := match(ts, "explain")
	if after, ok := afterParentheses(rest); ok && !isQuery(rest) {
		return after
	}
	rest, _ = match(rest, "analyze|analyse? verbose?")
	return rest
}

// isQuery reports whether parentheses hold a query rather than a list of options.
func isQuery(ts []token) bool {
	for len(ts) > 0 && ts[0].is("(") {
		ts = ts[1:]
	}
	return followedBy(ts, "select", "with", "values", "table")
}

// begins returns a rule for statements that begin with a pattern.
func begins(statement, pattern, message string, source Source, example string) Rule {
	return special(statement, message, source, example, func(ts []token) string {
		if has(ts, pattern) {
			return message
		}
		return ""
	})
}

// special returns a rule for what a pattern cannot express.
func special(statement, message string, source Source, example string, refuse func([]token) string) Rule {
	return Rule{Statement: statement, Message: message, Source: source, Example: example, Code: "0A000", refuse: refuse}
}

// example returns a row of the documentation for what refusal or another rule refuses.
func example(statement, message string, source Source, example string) Rule {
	return special(statement, message, source, example, func([]token) string { return "" })
}

func (r Rule) withCode(code, hint string) Rule {
	r.Code, r.Hint = code, hint
	return r
}

// when returns a refuse function for a condition.
func when(message string, condition func(ts []token) bool) func([]token) string {
	return func(ts []token) string {
		if condition(ts) {
			return message
		}
		return ""
	}
}

// unsupported returns a rule for a kind of statement that DSQL does not have. The message
// has the name of PostgreSQL's parse node.
func unsupported(pattern, node string, source Source, example string) Rule {
	statement := strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(pattern, "or? replace? ", ""), "?", ""))
	return begins(statement, pattern, "unsupported statement: "+node, source, example)
}

const createTableAs = "unsupported statement: CreateTableAs"

var statementRules = []Rule{
	unsupported("truncate", "Truncate", Recorded, "TRUNCATE t"),
	begins("VACUUM", "vacuum", "unsupported VACUUM statement", Recorded, "VACUUM t"),
	special("ANALYZE of other than one table", "unsupported ANALYZE statement", Unverified, "ANALYZE", when("unsupported ANALYZE statement", func(ts []token) bool {
		return has(ts, "analyze|analyse") && !fits(ts, "analyze|analyse NAME")
	})),
	unsupported("listen", "Listen", Recorded, "LISTEN c"),
	unsupported("notify", "Notify", Recorded, "NOTIFY c"),
	unsupported("unlisten", "Unlisten", Recorded, "UNLISTEN *"),
	unsupported("lock", "Lock", Observed, "LOCK TABLE t"),
	special("MERGE", "unsupported statement type: MERGE", Recorded, "MERGE INTO t USING t AS s ON s.id = t.id WHEN MATCHED THEN DELETE", when("unsupported statement type: MERGE", func(ts []token) bool {
		return has(ts, "merge") || has(ts, "with") && find(ts, 0, "merge into") > 0
	})),
	special("SELECT INTO", createTableAs, Unverified, "SELECT 1 AS n INTO x", when(createTableAs, func(ts []token) bool {
		return followedBy(ts, "select", "with") && find(ts, 0, "into") >= 0 && find(ts, 0, "insert|merge") < 0
	})),
	begins("PREPARE TRANSACTION", "prepare transaction", "unsupported transaction statement: PREPARE TRANSACTION", Unverified, "PREPARE TRANSACTION 'x'"),
	unsupported("prepare", "Prepare", Unverified, "PREPARE p AS SELECT 1"),
	unsupported("execute", "Execute", Observed, "EXECUTE p"),
	special("DEALLOCATE of one statement", "unsupported statement: Deallocate", Unverified, "DEALLOCATE p", when("unsupported statement: Deallocate", func(ts []token) bool {
		return has(ts, "deallocate") && !fits(ts, "deallocate prepare? all")
	})),
	unsupported("discard", "Discard", Unverified, "DISCARD ALL"),
	unsupported("declare", "DeclareCursor", Observed, "DECLARE c CURSOR FOR SELECT 1"),
	unsupported("fetch", "Fetch", Unverified, "FETCH c"),
	unsupported("move", "Fetch", Unverified, "MOVE c"),
	unsupported("close", "ClosePortal", Unverified, "CLOSE c"),
	unsupported("do", "Do", Observed, "DO 'BEGIN END'"),
	unsupported("load", "Load", Unverified, "LOAD 'auto_explain'"),
	unsupported("cluster", "Cluster", Unverified, "CLUSTER t"),
	unsupported("checkpoint", "CheckPoint", Unverified, "CHECKPOINT"),
	unsupported("reindex", "Reindex", Unverified, "REINDEX TABLE t"),
	unsupported("refresh", "RefreshMatView", Unverified, "REFRESH MATERIALIZED VIEW m"),
	unsupported("reassign owned", "ReassignOwned", Unverified, "REASSIGN OWNED BY app TO admin"),
	unsupported("security label", "SecLabel", Unverified, "SECURITY LABEL ON TABLE t IS 'x'"),
	unsupported("import foreign schema", "ImportForeignSchema", Unverified, "IMPORT FOREIGN SCHEMA s FROM SERVER f INTO public"),
	special("COPY with a file or a program", "unsupported COPY statement", Unverified, "COPY t FROM '/tmp/t.csv'", refuseCopy),
	special("CALL of another procedure", "unsupported statement: Call", Unverified, "CALL p()", when("unsupported statement: Call", func(ts []token) bool {
		return has(ts, "call") && !isCallOf(ts[1:], "sys", "wait_for_job")
	})),
}

// refuseCopy refuses COPY of a file or a program.
func refuseCopy(ts []token) string {
	i := find(ts, 0, "from|to")
	if !has(ts, "copy") || i < 0 || followedBy(ts[i+1:], "stdin", "stdout") {
		return ""
	}
	return "unsupported COPY statement"
}

var transactionRules = []Rule{
	begins("SAVEPOINT", "savepoint", "unsupported transaction statement: SAVEPOINT", Recorded, "SAVEPOINT s"),
	begins("ROLLBACK TO", "rollback|abort work|transaction? to", "unsupported transaction statement: ROLLBACK TO", Recorded, "ROLLBACK TO s"),
	begins("RELEASE", "release", "unsupported transaction statement: RELEASE", Unverified, "RELEASE s"),
	begins("COMMIT PREPARED", "commit prepared", "unsupported transaction statement: COMMIT PREPARED", Unverified, "COMMIT PREPARED 'x'"),
	begins("ROLLBACK PREPARED", "rollback prepared", "unsupported transaction statement: ROLLBACK PREPARED", Unverified, "ROLLBACK PREPARED 'x'"),
	special("BEGIN with another isolation level", "Unsupported isolation level: SERIALIZABLE", Recorded, "BEGIN ISOLATION LEVEL SERIALIZABLE", func(ts []token) string {
		if has(ts, "begin") || has(ts, "start transaction") {
			return refuseIsolation(ts)
		}
		return ""
	}),
	special("BEGIN DEFERRABLE", "unsupported transaction mode: DEFERRABLE", Unverified, "BEGIN DEFERRABLE", when("unsupported transaction mode: DEFERRABLE", func(ts []token) bool {
		return has(ts, "begin|start") && find(ts, 0, "deferrable") > 0
	})),
	special("COMMIT AND CHAIN", "unsupported transaction statement: COMMIT AND CHAIN", Unverified, "COMMIT AND CHAIN", func(ts []token) string {
		if has(ts, "commit|end|rollback|abort work|transaction? and chain") {
			return "unsupported transaction statement: COMMIT AND CHAIN"
		}
		return ""
	}),
}
