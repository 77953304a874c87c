package dialect

import (
	"fmt"
	"strconv"
	"strings"
)

// createRules apply to CREATE of objects that DSQL does not have.
var createRules = []Rule{
	begins("CREATE TRIGGER", "create or? replace? constraint? trigger", "CREATE TRIGGER not supported", Recorded, "CREATE TRIGGER g BEFORE INSERT ON t EXECUTE FUNCTION f()"),
	begins("CREATE PROCEDURE", "create or? replace? procedure", "PROCEDURE is not supported", Observed, "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'"),
	begins("CREATE TEMPORARY TABLE", "create global|local? temp|temporary table", "TEMPORARY or TEMP table not supported for CREATE TABLE", Recorded, "CREATE TEMP TABLE x (id int)"),
	begins("CREATE UNLOGGED TABLE", "create unlogged table", "UNLOGGED table not supported for CREATE TABLE", Recorded, "CREATE UNLOGGED TABLE x (id int)"),
	begins("CREATE TEMPORARY VIEW", "create or? replace? global|local? temp|temporary recursive? view", "TEMPORARY or TEMP view not supported for CREATE VIEW", Unverified, "CREATE TEMP VIEW w AS SELECT 1 AS n"),
	begins("CREATE UNLOGGED VIEW", "create or? replace? unlogged recursive? view", "UNLOGGED view not supported for CREATE VIEW", Unverified, "CREATE UNLOGGED VIEW w AS SELECT 1 AS n"),
	begins("CREATE TEMPORARY SEQUENCE", "create global|local? temp|temporary sequence", "TEMPORARY or TEMP sequence not supported for CREATE SEQUENCE", Unverified, "CREATE TEMP SEQUENCE s CACHE 1"),
	begins("CREATE UNLOGGED SEQUENCE", "create unlogged sequence", "UNLOGGED sequence not supported for CREATE SEQUENCE", Unverified, "CREATE UNLOGGED SEQUENCE s CACHE 1"),
	begins("CREATE MATERIALIZED VIEW", "create unlogged? materialized view", createTableAs, Recorded, "CREATE MATERIALIZED VIEW m AS SELECT 1 AS n"),
	special("CREATE TYPE AS ENUM", "CREATE TYPE not supported", Recorded, "CREATE TYPE mood AS ENUM ('sad', 'ok')", refuseCreateType),
	example("CREATE TYPE, composite", "unsupported statement: CompositeType", Recorded, "CREATE TYPE pair AS (a int, b int)"),
	example("CREATE TYPE AS RANGE", "unsupported statement: CreateRange", Recorded, "CREATE TYPE span AS RANGE (subtype = int)"),
	unsupported("create extension", "CreateExtension", Recorded, "CREATE EXTENSION hstore"),
	unsupported("create database", "Createdb", Recorded, "CREATE DATABASE d"),
	unsupported("create tablespace", "CreateTableSpace", Recorded, "CREATE TABLESPACE s LOCATION '/tmp'"),
	unsupported("create foreign table", "CreateForeignTable", Recorded, "CREATE FOREIGN TABLE f (id int) SERVER s"),
	unsupported("create foreign data wrapper", "CreateFdw", Unverified, "CREATE FOREIGN DATA WRAPPER w"),
	unsupported("create server", "CreateForeignServer", Unverified, "CREATE SERVER s FOREIGN DATA WRAPPER w"),
	unsupported("create user mapping", "CreateUserMapping", Unverified, "CREATE USER MAPPING FOR admin SERVER s"),
	unsupported("create policy", "CreatePolicy", Observed, "CREATE POLICY p ON t USING (true)"),
	unsupported("create or? replace? rule", "Rule", Observed, "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING"),
	unsupported("create text search", "Define", Observed, "CREATE TEXT SEARCH CONFIGURATION c (COPY = simple)"),
	unsupported("create or? replace? aggregate", "Define", Unverified, "CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int)"),
	unsupported("create operator class", "CreateOpClass", Unverified, "CREATE OPERATOR CLASS c FOR TYPE int USING btree AS OPERATOR 1 <"),
	unsupported("create operator family", "CreateOpFamily", Unverified, "CREATE OPERATOR FAMILY f USING btree"),
	unsupported("create operator", "Define", Unverified, "CREATE OPERATOR === (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int)"),
	unsupported("create collation", "Define", Unverified, `CREATE COLLATION c FROM "C"`),
	unsupported("create cast", "CreateCast", Unverified, "CREATE CAST (int AS text) WITH INOUT"),
	unsupported("create default? conversion", "CreateConversion", Unverified, "CREATE CONVERSION c FOR 'UTF8' TO 'LATIN1' FROM f"),
	unsupported("create or? replace? transform", "CreateTransform", Unverified, "CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION f(internal))"),
	unsupported("create or? replace? trusted? procedural? language", "CreatePLang", Unverified, "CREATE LANGUAGE plperl"),
	unsupported("create event trigger", "CreateEventTrig", Unverified, "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()"),
	unsupported("create publication", "CreatePublication", Unverified, "CREATE PUBLICATION p"),
	unsupported("create subscription", "CreateSubscription", Unverified, "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p"),
	unsupported("create access method", "CreateAm", Unverified, "CREATE ACCESS METHOD m TYPE INDEX HANDLER bthandler"),
	special("CREATE ROLE with other options than LOGIN", "unsupported option in CREATE ROLE", Unverified, "CREATE ROLE app WITH LOGIN PASSWORD 'x'", when("unsupported option in CREATE ROLE", func(ts []token) bool {
		rest, ok := match(ts, "create role|user|group")
		_, rest = name(rest)
		return ok && !fitsAny(rest, roleOptions)
	})),
}

var roleOptions = []string{
	"with? login|nologin|inherit|noinherit? login|nologin|inherit|noinherit?",
	"with? login|nologin? in? role|admin NAMES",
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

// alterable lists the forms of ALTER that DSQL accepts for objects other than tables.
var alterable = []string{
	"index if? exists? NAME rename to NAME",
	"schema NAME rename|owner to NAME",
	"function|routine NAME ()? rename|owner to NAME", "function|routine NAME ()? set schema NAME", "function NAME ()? no? depends on extension NAME",
	"domain NAME set default ...", "domain NAME drop default", "domain NAME drop not null",
	"domain NAME drop constraint if? exists? NAME cascade|restrict?", "domain NAME rename|owner to NAME",
	"domain NAME rename constraint NAME to NAME", "domain NAME set schema NAME",
	"role|user|group NAME rename to NAME", "role NAME reset NAME", "role NAME with? login|nologin",
	"statistics NAME rename|owner to NAME", "statistics NAME set schema NAME", "statistics if? exists? NAME set statistics VALUE",
	"default privileges ...", "view ...", "sequence ...", "table ...",
}

// alterRules apply to ALTER of objects other than tables.
var alterRules = []Rule{
	special("ALTER TYPE RENAME TO", "unsupported object in RENAME statement", Recorded, "ALTER TYPE mood RENAME TO humor", when("unsupported object in RENAME statement", func(ts []token) bool {
		rest, ok := match(ts, "alter")
		return ok && find(ts, 0, "rename to") > 0 && objectKind(rest) != "" && !fitsAny(rest, alterable)
	})),
	begins("ALTER TYPE", "alter type", "ALTER TYPE not supported", Recorded, "ALTER TYPE mood ADD VALUE 'glad'"),
	unsupported("alter system", "AlterSystem", Recorded, "ALTER SYSTEM SET work_mem = '1MB'"),
	unsupported("alter text search configuration", "AlterTSConfiguration", Observed, "ALTER TEXT SEARCH CONFIGURATION simple ALTER MAPPING FOR word WITH simple"),
	special("ALTER ROLE with other options than LOGIN", "unsupported statement: AlterRole", Unverified, "ALTER ROLE app WITH PASSWORD 'x'", when("unsupported statement: AlterRole", func(ts []token) bool {
		rest, ok := match(ts, "alter")
		return ok && has(rest, "role|user") && !has(rest, "user mapping") && find(ts, 0, "set") < 0 && !fitsAny(rest, alterable)
	})),
	special("ALTER ROLE SET", "unsupported statement: AlterRoleSet", Unverified, "ALTER ROLE app SET search_path = app", when("unsupported statement: AlterRoleSet", func(ts []token) bool {
		return has(ts, "alter role|user") && find(ts, 0, "set") > 0
	})),
	special("ALTER FUNCTION of an attribute", "unsupported statement: AlterFunction", Unverified, "ALTER FUNCTION f() IMMUTABLE", when("unsupported statement: AlterFunction", func(ts []token) bool {
		return has(ts, "alter function|routine") && !fitsAny(ts[1:], alterable)
	})),
	special("ALTER STATISTICS with a target over 100", "statistics target 101 exceeds maximum allowed value of 100", Observed, "ALTER STATISTICS s SET STATISTICS 101", func(ts []token) string {
		rest, ok := match(ts, "alter statistics if? exists? NAME set statistics")
		if !ok || len(rest) == 0 {
			return ""
		}
		if target, err := strconv.Atoi(rest[0].text); err == nil && target > 100 {
			return fmt.Sprintf("statistics target %d exceeds maximum allowed value of 100", target)
		}
		return ""
	}).withCode("22023", ""),
	special("ALTER DOMAIN SET NOT NULL, ADD CONSTRAINT, VALIDATE CONSTRAINT", "unsupported ALTER DOMAIN statement", Unverified, "ALTER DOMAIN d SET NOT NULL", when("unsupported ALTER DOMAIN statement", func(ts []token) bool {
		return has(ts, "alter domain") && !fitsAny(ts[1:], alterable)
	})),
	special("ALTER of other objects", "ALTER INDEX not supported", Unverified, "ALTER INDEX i SET (fillfactor = 70)", func(ts []token) string {
		rest, ok := match(ts, "alter")
		if kind := objectKind(rest); ok && kind != "" && !fitsAny(rest, alterable) {
			return "ALTER " + kind + " not supported"
		}
		return ""
	}),
}

// objectKinds lists all kinds that PostgreSQL has, those of several words first.
var objectKinds = []string{
	"access method", "event trigger", "foreign data wrapper", "foreign table", "large object", "materialized view", "operator class",
	"operator family", "procedural language", "text search configuration", "text search dictionary", "text search parser",
	"text search template", "user mapping", "default privileges",
	"aggregate", "cast", "collation", "column", "constraint", "conversion", "database", "domain", "extension", "function", "group",
	"index", "language", "operator", "owned", "policy", "procedure", "publication", "role", "routine", "rule", "schema", "sequence",
	"server", "statistics", "subscription", "system", "table", "tablespace", "transform", "trigger", "type", "user", "view",
}

// objectKind returns the kind of object that tokens begin with, or nothing: then
// PostgreSQL reports the syntax error.
func objectKind(ts []token) string {
	for _, kind := range objectKinds {
		if has(ts, kind) {
			return strings.ToUpper(kind)
		}
	}
	return ""
}

// droppable lists the forms of DROP that DSQL accepts.
var droppable = []string{
	"table|view|sequence|schema|domain|function|routine|statistics ...", "index ...", "role|user|group ...",
	"trigger ...", "event trigger if exists NAMES cascade|restrict?",
}

var dropRules = []Rule{
	begins("DROP INDEX CONCURRENTLY", "drop index concurrently", "DROP INDEX CONCURRENTLY must be first action in transaction", Observed, "DROP INDEX CONCURRENTLY i"),
	special("DROP DOMAIN CASCADE", "DROP DOMAIN with CASCADE unsupported", Observed, "DROP DOMAIN d CASCADE", when("DROP DOMAIN with CASCADE unsupported", func(ts []token) bool {
		return has(ts, "drop domain") && find(ts, 0, "cascade") > 0
	})),
	unsupported("drop database", "Dropdb", Unverified, "DROP DATABASE d"),
	unsupported("drop tablespace", "DropTableSpace", Unverified, "DROP TABLESPACE s"),
	unsupported("drop owned", "DropOwned", Unverified, "DROP OWNED BY app"),
	unsupported("drop user mapping", "DropUserMapping", Unverified, "DROP USER MAPPING FOR admin SERVER s"),
	unsupported("drop subscription", "DropSubscription", Unverified, "DROP SUBSCRIPTION s"),
	special("DROP TYPE", "unsupported object in DROP statement", Recorded, "DROP TYPE mood", when("unsupported object in DROP statement", func(ts []token) bool {
		rest, ok := match(ts, "drop")
		return ok && objectKind(rest) != "" && !fitsAny(rest, droppable)
	})),
	example("DROP of other objects", "unsupported object in DROP statement", Unverified, "DROP POLICY p ON t"),
	special("COMMENT ON other objects", "unsupported object in COMMENT statement", Unverified, "COMMENT ON TYPE mood IS 'x'", when("unsupported object in COMMENT statement", func(ts []token) bool {
		rest, ok := match(ts, "comment on")
		return ok && objectKind(rest) != "" && !has(rest, "table|column|view|index|sequence|schema|role|function|routine|constraint|domain|statistics")
	})),
}

// grantable lists what follows ON in the forms of GRANT and REVOKE that DSQL accepts.
var grantable = []string{
	"table? NAMES to|from ...", "sequence NAMES to|from ...", "schema NAMES to|from ...", "function|routine ...",
	"all tables|sequences|functions|routines in schema NAMES to|from ...",
}

var privilegeRules = []Rule{
	special("GRANT ON SCHEMA public", systemEntity, Recorded, "GRANT USAGE ON SCHEMA public TO app", refuseGrant),
	example("GRANT ON DATABASE", grantObject, Observed, "GRANT CONNECT ON DATABASE postgres TO app"),
	example("GRANT ON other objects", grantObject, Unverified, "GRANT USAGE ON LANGUAGE sql TO app"),
	special("DROP SCHEMA public", systemEntity, Unverified, "DROP SCHEMA public CASCADE", refusePublic),
	example("ALTER SCHEMA public", systemEntity, Unverified, "ALTER SCHEMA public RENAME TO app"),
	special("GRANT of a role of PostgreSQL's", `role "pg_read_all_data" does not exist`, Unverified, "GRANT pg_read_all_data TO app", func(ts []token) string {
		rest, ok := match(ts, "grant|revoke")
		role, _ := name(rest)
		if ok && find(ts, 0, "on") < 0 && strings.HasPrefix(role, "pg_") {
			return fmt.Sprintf("role %q does not exist", role)
		}
		return ""
	}).withCode("42704", ""),
	special("GRANT of the role admin", "Role admin not supported", Unverified, "GRANT admin TO app", when("Role admin not supported", func(ts []token) bool {
		rest, ok := match(ts, "grant")
		role, _ := name(rest)
		return ok && role == "admin" && find(ts, 0, "on") < 0
	})),
	special("GRANT of a role WITH options", "unsupported option in GRANT", Unverified, "GRANT app TO other WITH ADMIN OPTION", when("unsupported option in GRANT", func(ts []token) bool {
		return has(ts, "grant") && find(ts, 0, "on") < 0 && find(ts, 0, "with") > 0 ||
			has(ts, "revoke admin|inherit|set option for")
	})),
}

const (
	systemEntity = "feature not supported on system entity"
	grantObject  = "unsupported object type in GRANT"
)

func refuseGrant(ts []token) string {
	on := find(ts, 0, "on")
	if !has(ts, "grant|revoke") || on < 0 {
		return ""
	}
	object := ts[on+1:]
	if !fitsAny(object, grantable) {
		return grantObject
	}
	if schemas, ok := match(object, "schema"); ok {
		return refuseSystemSchemas(schemas[:find(schemas, 0, "to|from")])
	}
	return ""
}

// refusePublic refuses to drop or change a schema that every cluster has.
func refusePublic(ts []token) string {
	if rest, ok := match(ts, "drop schema if? exists?"); ok {
		return refuseSystemSchemas(rest)
	}
	if rest, ok := match(ts, "alter schema"); ok {
		return refuseSystemSchemas(rest)
	}
	return ""
}

func refuseSystemSchemas(names []token) string {
	for _, item := range list(names, 0) {
		if schema, _ := name(item); schema == "public" || schema == "sys" || strings.HasPrefix(schema, "pg_") || schema == "information_schema" {
			return systemEntity
		}
	}
	return ""
}
