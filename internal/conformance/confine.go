package conformance

import (
	"regexp"
	"slices"
	"strings"
)

// confinement keeps the statements of a file in schemas of its own: the one that stands for public,
// and one for each that the statements create.
type confinement struct {
	schema  string
	created map[string]string // by the statements' names
	lost    []string          // what statements that were skipped would have created
}

var (
	// inSchema is what has an effect on objects that are found by the search path, or on the
	// session.
	inSchema = regexp.MustCompile(`(?is)^(--.*|` +
		`(select|with|values|table|show|set|reset|begin|start|commit|end|rollback|abort|savepoint|release|` +
		`insert|update|delete|merge|explain|prepare|execute|deallocate|declare|fetch|move|close|discard|do|call|` +
		`analyze|vacuum|truncate|lock|listen|notify|unlisten|load|checkpoint|cluster|refresh)\b.*|` +
		`copy \w+.* (from stdin|to stdout)\b.*|` +
		`(create|alter|drop|comment on)\s+(or replace |global |local |temp |temporary |unlogged |recursive |unique |materialized |constraint )*` +
		`(table|foreign table|view|index|sequence|function|procedure|routine|aggregate|domain|type|trigger|rule|policy|statistics|` +
		`operator|text search|collation|conversion|column|constraint)\b.*|` +
		`create schema .*|drop schema .*|create extension .*|` +
		`(grant|revoke)\s[\w, ]* on (table |sequence |function |all tables in schema |all sequences in schema |schema )?[\w.()]+ (to|from) public\s*;?)$`)
	// outside reaches out of the cluster, or into other sessions.
	outside = regexp.MustCompile(`(?is)^copy .*'|\bpg_(terminate|cancel)_backend|\bpg_(reload|rotate)|\bpg_(read|write)_|\bdblink|\blo_`)
	// wide is what belongs to the whole cluster.
	wide   = regexp.MustCompile(`(?is)^\w+ (role|user|group|database|tablespace|system|server|foreign data|default privileges)\b|^(grant|revoke|reassign)\b`)
	theirs = regexp.MustCompile(`(?is)\biam_pg_role_mappings|\bpg_(roles|authid|user|shadow|auth_members)\b`)

	createsSchema = regexp.MustCompile(`(?i)^create schema (?:if not exists )?(\w+)`)
	dropsSchema   = regexp.MustCompile(`(?i)^drop schema (?:if exists )?(\w+)(?: cascade| restrict)?;?$`)
	createsRole   = regexp.MustCompile(`(?i)^(?:create (?:role|user|group)|alter (?:role|user|group) \w+ rename to) (\w+)`)
	public        = regexp.MustCompile(`\bpublic\b`) // PUBLIC is everybody
)

// before are the words before the name of what a statement changes.
var before = strings.Fields(`create alter drop insert into update delete from truncate merge or replace global local temp temporary
	unlogged recursive unique materialized constraint table foreign view index sequence function procedure routine aggregate domain type
	if not exists only async concurrently`)

// target returns the name of what a statement changes, in lower case.
func target(sql string) string {
	words := strings.Fields(strings.ToLower(sql))
	if len(words) == 0 || !slices.Contains(before[:8], words[0]) && words[0] != "merge" {
		return ""
	}
	for _, word := range words {
		if !slices.Contains(before, word) {
			return word
		}
	}
	return ""
}

// skip returns why a statement is not run on a cluster that is not only the run's; "" if it is.
func (c *confinement) skip(sql string) string {
	sql = strings.TrimSpace(strings.TrimPrefix(sql, "!"))
	for _, name := range c.lost {
		if regexp.MustCompile(`\b` + name + `\b`).MatchString(sql) {
			return "needs " + name + ", which is not created"
		}
	}
	first := strings.ToLower(sql)
	qualifier, _, qualified := strings.Cut(target(sql), ".")
	switch {
	case strings.HasPrefix(first, "aws "):
		return "changes who may connect to the cluster"
	case theirs.MatchString(sql):
		return "shows the roles and principals of the cluster"
	case outside.MatchString(sql):
		return "may have an effect outside of the run's schemas"
	case !inSchema.MatchString(sql) && wide.MatchString(sql):
		return "is about the whole cluster"
	case !inSchema.MatchString(sql):
		return "is not known to have an effect on the run's schemas only"
	case strings.HasPrefix(first, "drop schema") && !c.drops(first), strings.HasPrefix(first, "grant") && strings.Contains(first, " on schema "),
		qualified && qualifier != "public" && c.created[qualifier] == "":
		return "is about a schema that is not the run's"
	}
	return ""
}

func (c *confinement) drops(sql string) bool {
	m := dropsSchema.FindStringSubmatch(sql)
	return m != nil && c.created[m[1]] != ""
}

// prepare returns the row in the schemas of the run, or why it is skipped.
func (c *confinement) prepare(row Row) (Row, string) {
	for _, sql := range append(row.Setup[:len(row.Setup):len(row.Setup)], row.SQL) {
		for piece := range strings.SplitSeq(sql, "; ") {
			if m := createsSchema.FindStringSubmatch(piece); m != nil && c.created[m[1]] == "" {
				c.created[m[1]] = c.schema + "_" + m[1]
			}
			if why := c.skip(piece); why != "" {
				if m := createsRole.FindStringSubmatch(piece); m != nil {
					c.lost = append(c.lost, m[1])
				}
				return row, why
			}
		}
	}
	confined := row
	confined.Setup = nil
	for _, sql := range row.Setup {
		confined.Setup = append(confined.Setup, c.rename(sql))
	}
	confined.SQL = c.rename(row.SQL)
	return confined, ""
}

func (c *confinement) rename(sql string) string {
	sql = public.ReplaceAllString(sql, c.schema)
	for name, own := range c.created {
		sql = regexp.MustCompile(`\b`+name+`\b`).ReplaceAllString(sql, own)
	}
	return sql
}

// schemas returns the schemas of the run.
func (c *confinement) schemas() []string {
	all := []string{c.schema}
	for _, own := range c.created {
		all = append(all, own)
	}
	return all
}

var private = regexp.MustCompile(`arn:aws[\w:/.@+=,-]*|\b[a-z0-9]{26}\.dsql[\w.-]*|\b\d{12}\b`)

// restore returns an answer as it would be in public, without what is private to the account.
func (c *confinement) restore(a Answer) Answer {
	for _, text := range []*string{&a.Message, &a.Value, &a.Last} {
		for name, own := range c.created {
			*text = strings.ReplaceAll(*text, own, name)
		}
		*text = strings.ReplaceAll(*text, c.schema, "public")
		*text = private.ReplaceAllString(*text, "…")
	}
	return a
}
