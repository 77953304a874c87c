package dialect

import (
	"strconv"
	"strings"
)

// count returns a Write's verb, and a query for the number of rows that it would change or
// nothing.
func (s source) count() (verb, sql string) {
	start := find(s.ts, 0, "insert|update|delete")
	if start < 0 || s.writesInWith() || find(s.ts, 0, "returning") >= 0 || find(s.ts, 0, "where current of") >= 0 {
		return "", ""
	}
	with, ts := s.text(s.ts[:start]), s.ts[start:]
	if with != "" {
		with += " "
	}
	switch verb = strings.ToUpper(ts[0].text); verb {
	case "INSERT":
		return verb, s.countInsert(with, ts)
	case "UPDATE":
		return verb, s.countUpdate(with, ts)
	default:
		return verb, s.countDelete(with, ts)
	}
}

func (s source) countInsert(with string, ts []token) string {
	if i := find(ts, 0, "on conflict"); i >= 0 {
		ts = ts[:i]
	}
	if find(ts, 0, "default values") >= 0 {
		return "SELECT 1"
	}
	if i := find(ts, 0, "values"); i >= 0 {
		return "SELECT " + strconv.Itoa(len(list(ts[i+1:], 0)))
	}
	if i := find(ts, 0, "select|with|table"); i >= 0 {
		return with + "SELECT count(*) FROM (" + s.text(ts[i:]) + ") AS inserted"
	}
	return ""
}

func (s source) countUpdate(with string, ts []token) string {
	set := find(ts, 0, "set")
	if set < 1 {
		return ""
	}
	from := s.text(ts[1:set])
	rest := ts[set:]
	end := len(rest)
	if i := find(rest, 0, "where"); i >= 0 {
		end = i
	}
	if i := findFrom(rest[:end]); i >= 0 {
		from += ", " + s.text(rest[i+1:end])
	}
	return with + "SELECT count(*) FROM " + from + " " + s.text(rest[end:])
}

// findFrom returns where the FROM clause of an UPDATE begins. IS DISTINCT FROM is none.
func findFrom(ts []token) int {
	for i := range ts {
		if ts[i].depth == 0 && ts[i].is("from") && !ts[i-1].is("distinct") {
			return i
		}
	}
	return -1
}

func (s source) countDelete(with string, ts []token) string {
	rest, ok := match(ts, "delete from")
	if !ok {
		return ""
	}
	end := len(rest)
	if i := find(rest, 0, "where"); i >= 0 {
		end = i
	}
	from := s.text(rest[:end])
	if i := find(rest[:end], 0, "using"); i > 0 {
		from = s.text(rest[:i]) + ", " + s.text(rest[i+1:end])
	}
	return with + "SELECT count(*) FROM " + from + " " + s.text(rest[end:])
}

// lockingClause returns where FOR UPDATE or FOR SHARE begins and ends; start is -1 without one.
func (s source) lockingClause() (start, end int) {
	for i, t := range s.ts {
		if !t.is("for") {
			continue
		}
		rest, ok := match(s.ts[i:], "for no? key? update|share")
		if !ok {
			continue
		}
		if of, ok := match(rest, "of"); ok {
			for _, rest = name(of); len(rest) > 0 && rest[0].is(","); {
				_, rest = name(rest[1:])
			}
		}
		if after, ok := match(rest, "nowait"); ok {
			rest = after
		}
		if after, ok := match(rest, "skip locked"); ok {
			rest = after
		}
		return i, len(s.ts) - len(rest)
	}
	return -1, -1
}

// unlocked returns a Lock without its locking clause.
func (s source) unlocked() string {
	start, end := s.lockingClause()
	return s.without(s.ts[start:end])
}
