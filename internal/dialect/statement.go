// Package dialect parses the SQL of Aurora DSQL: what kind a statement is, whether
// DSQL refuses it and with which message, and what PostgreSQL executes in its place
// where DSQL's SQL is not PostgreSQL's.
//
// It matches tokens and has no grammar: PostgreSQL reports syntax errors.
package dialect

import (
	"fmt"
	"strings"

	"github.com/go-dsql/dsql/internal/params"
)

// ServerVersion is DSQL's server_version.
const ServerVersion = "16.15"

// Kind classifies statements.
type Kind int

// Kinds of statements.
const (
	Empty    Kind = iota // nothing but space and comments
	Begin                // BEGIN, START TRANSACTION
	Commit               // COMMIT, END
	Rollback             // ROLLBACK, ABORT
	Setting              // SET, SHOW, RESET and the like
	Read                 // SELECT and all that is none of the others
	Lock                 // SELECT … FOR UPDATE or FOR KEY SHARE
	Write                // INSERT, UPDATE, DELETE
	Copy                 // COPY … FROM
	Analyze              // ANALYZE
	DDL                  // CREATE, ALTER, DROP, GRANT, REVOKE and the like
)

// Statement is a parsed statement.
type Statement struct {
	Kind    Kind
	SQL     string // what PostgreSQL is to run
	Tag     string // the command tag, if not PostgreSQL's
	Refusal *Refusal
	// OutsideBlock is why DSQL refuses the statement outside a transaction block, if it does so there.
	OutsideBlock *Refusal
	// Instead is a Lock without its locking clause.
	Instead string
	// EstimatesCost is for EXPLAIN ANALYZE VERBOSE as text, whose answer DSQL ends with an
	// estimate of DPUs.
	EstimatesCost bool
}

// Refusal is the error that DSQL refuses a statement with.
type Refusal struct {
	Code    string // SQLSTATE
	Message string
	Hint    string
}

// Parse parses a string of statements. It returns at least one Statement.
func Parse(sql string) []Statement {
	tokens := scan(sql)
	if renamed := withCatalogName(sql, tokens); renamed != sql {
		sql, tokens = renamed, scan(renamed)
	}
	parts := split(tokens)
	switch len(parts) {
	case 0:
		return []Statement{{Kind: Empty, SQL: sql}}
	case 1:
		return []Statement{parse(source{sql, parts[0]}, sql)}
	}
	statements := make([]Statement, len(parts))
	for i, ts := range parts {
		s := source{sql, ts}
		statements[i] = parse(s, s.text(ts))
	}
	return statements
}

// Split returns the statements of a string, which semicolons separate.
func Split(sql string) []string {
	var statements []string
	for _, ts := range split(scan(sql)) {
		statements = append(statements, source{sql, ts}.text(ts))
	}
	return statements
}

// source is a statement within its text.
type source struct {
	sql string
	ts  []token
}

// text returns the text of tokens, with all that is between them.
func (s source) text(ts []token) string {
	if len(ts) == 0 {
		return ""
	}
	return s.sql[ts[0].start:ts[len(ts)-1].end]
}

// without returns the statement without some adjacent tokens.
func (s source) without(cut []token) string {
	first, last := s.ts[0], s.ts[len(s.ts)-1]
	return s.sql[first.start:cut[0].start] + s.sql[cut[len(cut)-1].end:last.end]
}

func parse(s source, sql string) Statement {
	st := Statement{Kind: s.kind(), SQL: sql}
	if st.Refusal = refusal(s.ts); st.Refusal != nil {
		return st
	}
	switch st.Kind {
	case Write: // as it is
	case Lock:
		st.SQL, st.Instead = s.waiting(sql), s.unlocked()
	default:
		s.rewrite(&st)
	}
	return st
}

// kinds maps a statement's first word to its kind.
var kinds = map[string]Kind{
	"begin": Begin, "start": Begin,
	"commit": Commit, "end": Commit,
	"rollback": Rollback, "abort": Rollback,
	"set": Setting, "show": Setting, "reset": Setting, "discard": Setting, "deallocate": Setting,
	"insert": Write, "update": Write, "delete": Write, "merge": Write,
	"analyze": Analyze, "analyse": Analyze,
	"create": DDL, "alter": DDL, "drop": DDL, "grant": DDL, "revoke": DDL, "comment": DDL,
	"reassign": DDL, "aws": DDL, "refresh": DDL, "reindex": DDL, "security": DDL, "import": DDL,
}

func (s source) kind() Kind {
	first := s.ts[0]
	if first.kind != word {
		return s.selectKind() // such as a parenthesis
	}
	switch first.text {
	case "with":
		return s.withKind()
	case "copy":
		if find(s.ts, 0, "from") > 0 {
			return Copy
		}
		return Read
	case "select", "values", "table":
		return s.selectKind()
	}
	if k, ok := kinds[first.text]; ok {
		return k
	}
	return Read
}

func (s source) selectKind() Kind {
	if start, _ := s.lockingClause(); start >= 0 {
		return Lock
	}
	return Read
}

// withKind returns the kind of a statement that begins with WITH.
func (s source) withKind() Kind {
	if i := find(s.ts, 0, "select|insert|update|delete|merge|values|table"); i >= 0 {
		if k, ok := kinds[s.ts[i].text]; ok {
			return k
		}
	}
	if s.writesInWith() {
		return Write
	}
	return s.selectKind()
}

// writesInWith reports whether a WITH clause changes data.
func (s source) writesInWith() bool {
	for i, t := range s.ts[1:] {
		if t.depth > 0 && s.ts[i].is("(") && (t.is("insert") || t.is("update") || t.is("delete")) {
			return true
		}
	}
	return false
}

// rewrite replaces DSQL's own SQL by PostgreSQL's.
func (s source) rewrite(st *Statement) {
	if rest, ok := match(s.ts, "create unique? index async"); ok {
		if _, clause := accessMethod(s.ts); clause != nil { // PostgreSQL calls it btree
			start, end := clause[0].start, clause[len(clause)-1].end
			s.sql = s.sql[:start] + strings.Repeat(" ", end-start) + s.sql[end:]
		}
		index := quote(s.without(s.ts[len(s.ts)-len(rest)-1:][:1]))
		if has(s.ts, "create unique") {
			index += ", " + quote("CREATE INDEX "+s.text(rest))
		}
		st.SQL = fmt.Sprintf("SELECT job_id FROM sys.build_index(%s) AS job_id WHERE job_id IS NOT NULL", index)
		st.Tag = "CREATE INDEX"
		return
	}
	if rest, ok := match(s.ts, "alter table async"); ok {
		async := s.ts[len(s.ts)-len(rest)-1:]
		st.SQL = fmt.Sprintf("SELECT sys.validate_constraint(%s) AS job_id", quote(s.without(async[:1])))
		st.Tag = "ALTER TABLE"
		return
	}
	if _, ok := match(s.ts, "show server_version"); ok {
		st.SQL, st.Tag = fmt.Sprintf("SELECT '%s' AS server_version", ServerVersion), "SHOW"
		return
	}
	if _, ok := match(s.ts, "show server_version_num"); ok {
		st.SQL, st.Tag = "SELECT '160015' AS server_version_num", "SHOW"
		return
	}
	if name, _, _ := setting(s.ts); name == "role" { // of SET LOCAL
		st.OutsideBlock = &Refusal{Code: "0A000", Message: params.RefusalMessage(name)}
	}
	st.EstimatesCost = estimatesCost(s.ts)
	s.rewriteTable(st)
	s.rewriteSetting(st)
	s.rewriteRole(st)
}

// estimatesCost reports whether a statement is EXPLAIN ANALYZE VERBOSE, as text.
func estimatesCost(ts []token) bool {
	rest, ok := match(ts, "explain")
	if !ok || isQuery(rest) {
		return false
	}
	if len(rest) == 0 || !rest[0].is("(") {
		return has(rest, "analyze|analyse verbose")
	}
	on := map[string]bool{}
	for _, option := range list(inside(rest), rest[0].depth+1) {
		if len(option) > 0 && option[0].kind == word {
			on[option[0].text] = len(option) == 1 || option[0].is("format") && !followedBy(option[1:], "text") ||
				followedBy(option[1:], "on", "true") || option[1].text == "1"
		}
	}
	return (on["analyze"] || on["analyse"]) && on["verbose"] && !on["format"]
}

// quote returns a string constant.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
