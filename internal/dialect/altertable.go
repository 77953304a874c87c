package dialect

import "strings"

// alterTableRules apply to ALTER TABLE:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/alter-table-syntax-support.html
var alterTableRules = []Rule{
	special("ALTER TABLE ADD COLUMN with a constraint", addColumn, Recorded, "ALTER TABLE t ADD COLUMN c int DEFAULT 0", refuseAlterTable),
	example("ALTER TABLE ADD COLUMN with COLLATE", noCollate, Observed, `ALTER TABLE t ADD COLUMN c text COLLATE "C"`),
	example("ALTER TABLE SET DATA TYPE", noAction("ALTER COLUMN ... SET DATA TYPE"), Recorded, "ALTER TABLE t ALTER COLUMN n TYPE bigint"),
	example("ALTER TABLE SET NOT NULL", noAction("ALTER COLUMN ... SET NOT NULL"), Recorded, "ALTER TABLE t ALTER n SET NOT NULL"),
	example("ALTER TABLE SET STATISTICS", noAction("ALTER COLUMN ... SET STATISTICS"), Observed, "ALTER TABLE t ALTER n SET STATISTICS 100"),
	example("ALTER TABLE SET COMPRESSION", noAction("ALTER COLUMN ... SET COMPRESSION"), Unverified, "ALTER TABLE t ALTER s SET COMPRESSION lz4"),
	example("ALTER TABLE ADD CONSTRAINT, validated", noAction("ADD CONSTRAINT"), Recorded, "ALTER TABLE t ADD CHECK (n > 0)"),
	example("ALTER TABLE VALIDATE CONSTRAINT", noAction("VALIDATE CONSTRAINT"), Recorded, "ALTER TABLE t VALIDATE CONSTRAINT c"),
	example("ALTER TABLE ENABLE ROW LEVEL SECURITY", noAction("ENABLE ROW SECURITY"), Observed, "ALTER TABLE t ENABLE ROW LEVEL SECURITY"),
	example("ALTER TABLE FORCE ROW LEVEL SECURITY", noAction("FORCE ROW SECURITY"), Unverified, "ALTER TABLE t FORCE ROW LEVEL SECURITY"),
	example("ALTER TABLE REPLICA IDENTITY", noAction("REPLICA IDENTITY"), Unverified, "ALTER TABLE t REPLICA IDENTITY FULL"),
	example("ALTER TABLE SET storage parameters", noAction("SET"), Unverified, "ALTER TABLE t SET (fillfactor = 70)"),
	example("ALTER TABLE SET TABLESPACE", noAction("SET TABLESPACE"), Unverified, "ALTER TABLE t SET TABLESPACE s"),
	example("ALTER TABLE SET UNLOGGED", noAction("SET UNLOGGED"), Unverified, "ALTER TABLE t SET UNLOGGED"),
	example("ALTER TABLE INHERIT", noAction("INHERIT"), Unverified, "ALTER TABLE t INHERIT p"),
	example("ALTER TABLE ATTACH PARTITION", noAction("ATTACH PARTITION"), Unverified, "ALTER TABLE t ATTACH PARTITION p DEFAULT"),
	example("ALTER TABLE DISABLE RULE", noAction("DISABLE RULE"), Unverified, "ALTER TABLE t DISABLE RULE r"),
	example("ALTER TABLE CLUSTER ON", noAction("CLUSTER ON"), Unverified, "ALTER TABLE t CLUSTER ON i"),
	special("ALTER TABLE ASYNC, other than VALIDATE CONSTRAINT", "unsupported ALTER TABLE ASYNC statement", Unverified, "ALTER TABLE ASYNC t DROP COLUMN n", when("unsupported ALTER TABLE ASYNC statement", func(ts []token) bool {
		return has(ts, "alter table async") && !fits(ts, "alter table async if? exists? only? NAME validate constraint NAME")
	})),
}

const addColumn = "ALTER TABLE ADD COLUMN with constraint not supported"

// noAction returns DSQL's refusal of an action, which has PostgreSQL's name for it.
func noAction(action string) string { return "unsupported ALTER TABLE " + action + " statement" }

// actions returns what an ALTER TABLE does.
func actions(ts []token) [][]token {
	rest, ok := match(ts, "alter table async? if? exists? only? NAME")
	if !ok {
		return nil
	}
	if len(rest) > 0 && rest[0].is("*") {
		rest = rest[1:]
	}
	return list(rest, 0)
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

// tableActions lists the forms of actions that DSQL accepts.
var tableActions = []string{
	"add column? if? not? exists? NAME TYPE null?",
	"add column? if? not? exists? NAME TYPE storage plain|external|extended|main|default",
	"drop column? if? exists? NAME cascade|restrict?",
	"alter column? NAME set default ...", "alter column? NAME drop default", "alter column? NAME drop not null",
	"alter column? NAME drop expression if? exists?", "alter column? NAME drop identity if? exists?",
	"alter column? NAME add generated always|by default? as identity ()?",
	"alter column? NAME set storage plain|external|extended|main|default",
	"alter constraint NAME not? deferrable? initially? deferred|immediate?",
	"drop constraint if? exists? NAME cascade|restrict?",
	"rename constraint NAME to NAME", "rename column? NAME to NAME", "rename to NAME",
	"set schema NAME", "owner to NAME",
	"enable|disable trigger NAME", "enable always|replica trigger NAME",
}

// tableActionNames lists PostgreSQL's names for the others.
var tableActionNames = []struct{ pattern, name string }{
	{"add", "ADD CONSTRAINT"}, {"alter constraint", "ALTER CONSTRAINT"}, {"drop", "DROP"},
	{"alter column? NAME set? data? type", "ALTER COLUMN ... SET DATA TYPE"},
	{"alter column? NAME set not null", "ALTER COLUMN ... SET NOT NULL"},
	{"alter column? NAME set statistics", "ALTER COLUMN ... SET STATISTICS"},
	{"alter column? NAME set compression", "ALTER COLUMN ... SET COMPRESSION"},
	{"alter column? NAME set storage", "ALTER COLUMN ... SET STORAGE"},
	{"alter column? NAME set expression", "ALTER COLUMN ... SET EXPRESSION"},
	{"alter column? NAME reset", "ALTER COLUMN ... RESET"}, {"alter column? NAME options", "ALTER COLUMN ... OPTIONS"},
	{"alter", "ALTER COLUMN ... SET"}, {"validate constraint", "VALIDATE CONSTRAINT"},
	{"enable row level security", "ENABLE ROW SECURITY"}, {"disable row level security", "DISABLE ROW SECURITY"},
	{"force row level security", "FORCE ROW SECURITY"}, {"no force row level security", "NO FORCE ROW SECURITY"},
	{"enable always rule", "ENABLE ALWAYS RULE"}, {"enable replica rule", "ENABLE REPLICA RULE"},
	{"enable rule", "ENABLE RULE"}, {"disable rule", "DISABLE RULE"},
	{"replica identity", "REPLICA IDENTITY"}, {"cluster on", "CLUSTER ON"}, {"set without cluster", "SET WITHOUT CLUSTER"},
	{"set without oids", "SET WITHOUT OIDS"}, {"set access method", "SET ACCESS METHOD"}, {"set tablespace", "SET TABLESPACE"},
	{"in tablespace", "SET TABLESPACE"}, {"set logged", "SET LOGGED"}, {"set unlogged", "SET UNLOGGED"}, {"set", "SET"}, {"reset", "RESET"},
	{"inherit", "INHERIT"}, {"no inherit", "NO INHERIT"}, {"of", "OF"}, {"not of", "NOT OF"}, {"options", "OPTIONS"},
	{"attach partition", "ATTACH PARTITION"}, {"detach partition", "DETACH PARTITION"}, {"split partition", "SPLIT PARTITION"},
	{"merge partitions", "MERGE PARTITIONS"},
}

func refuseAction(action []token) string {
	switch {
	case has(action, "add constraint|primary|unique|check|foreign|exclude"):
		constraint, _ := match(action, "add")
		if named, ok := match(constraint, "constraint NAME"); ok {
			constraint = named
		}
		// PostgreSQL itself does not take NOT VALID for a key.
		if fits(constraint, "unique using index NAME") || has(constraint, "check|foreign|unique|primary") && find(action, 0, "not valid") > 0 {
			return ""
		}
		return noAction("ADD CONSTRAINT")
	case fitsAny(action, tableActions), altersIdentity(action):
		return ""
	case has(action, "add"):
		definition, ok := match(action, "add column? if? not? exists? NAME")
		switch clauses := afterType(definition); {
		case !ok || len(definition) == 0:
			return ""
		case has(clauses, "collate"):
			return noCollate
		case has(clauses, "compression"):
			return "COMPRESSION clause not supported"
		}
		return addColumn
	}
	for _, known := range tableActionNames {
		if has(action, known.pattern) {
			return noAction(known.name)
		}
	}
	return "" // PostgreSQL reports the syntax error
}

// altersIdentity reports whether an action sets options of an identity column.
func altersIdentity(action []token) bool {
	rest, ok := match(action, "alter column? NAME")
	if !ok || len(rest) == 0 {
		return false
	}
next:
	for len(rest) > 0 {
		if after, ok := match(rest, "set generated always|by default?"); ok {
			rest = after
			continue
		}
		if has(rest, "set") {
			rest = rest[1:]
		} else if !has(rest, "restart") {
			return false
		}
		for _, option := range sequenceOptions {
			if after, ok := match(rest, option); ok && !strings.HasPrefix(option, "owned") {
				rest = after
				continue next
			}
		}
		return false
	}
	return true
}
