package dialect

import (
	"fmt"
	"strings"
)

// rewriteRole replaces statements on roles, which belong to one cluster and not to the
// PostgreSQL that several clusters share.
func (s source) rewriteRole(st *Statement) {
	switch {
	case has(s.ts, "create role|user|group"):
		rest, _ := match(s.ts, "create role|user|group")
		role, rest := name(rest)
		st.SQL = fmt.Sprintf("CALL sys.create_role(%s, %t)", quote(role), login(rest, s.ts[1].is("user")))
		st.Tag = "CREATE ROLE"
	case has(s.ts, "alter role|user|group"):
		rest, _ := match(s.ts, "alter role|user|group")
		role, rest := name(rest)
		if to, ok := match(rest, "rename to"); ok {
			as, _ := name(to)
			st.SQL = fmt.Sprintf("CALL sys.rename_role(%s, %s)", quote(role), quote(as))
			st.Tag = "ALTER ROLE"
			return
		}
		if !followedBy(rest, "with", "login", "nologin") {
			return
		}
		st.SQL = fmt.Sprintf("CALL sys.alter_role(%s, %t)", quote(role), login(rest, true))
		st.Tag = "ALTER ROLE"
	case has(s.ts, "drop role|user|group"):
		rest, _ := match(s.ts, "drop role|user|group")
		after, ifExists := match(rest, "if exists")
		if ifExists {
			rest = after
		}
		var names []string
		for _, item := range list(rest, 0) {
			role, _ := name(item)
			names = append(names, quote(role))
		}
		st.SQL = fmt.Sprintf("CALL sys.drop_roles(%t, %s)", ifExists, strings.Join(names, ", "))
		st.Tag = "DROP ROLE"
	case has(s.ts, "aws iam grant|revoke"):
		verb := s.ts[2].text
		role, rest := name(s.ts[3:])
		if len(rest) != 2 || !rest[0].is("to") && !rest[0].is("from") {
			return // PostgreSQL reports the syntax error
		}
		st.SQL = fmt.Sprintf("CALL sys.iam_%s(%s, %s)", verb, quote(role), quote(rest[1].text))
		st.Tag = strings.ToUpper(verb)
	}
}

func has(ts []token, pattern string) bool {
	_, ok := match(ts, pattern)
	return ok
}

// login reports whether the options of a role let it log in.
func login(ts []token, byDefault bool) bool {
	for _, t := range ts {
		switch {
		case t.is("login"):
			return true
		case t.is("nologin"):
			return false
		}
	}
	return byDefault
}
