package dialect

// AsyncIndex is what CREATE INDEX ASYNC names.
type AsyncIndex struct {
	Name        string // empty: the server chooses one
	Schema      string // of the table; empty: the first of the search path that has the table
	Table       string
	IfNotExists bool
}

// ParseAsyncIndex parses a single CREATE [UNIQUE] INDEX ASYNC. Any other SQL is not ok.
func ParseAsyncIndex(sql string) (x AsyncIndex, ok bool) {
	parts := split(scan(sql))
	if len(parts) != 1 {
		return x, false
	}
	rest, ok := match(parts[0], "create unique? index async")
	if !ok {
		return x, false
	}
	if after, ok := match(rest, "if not exists"); ok {
		x.IfNotExists, rest = true, after
	}
	if len(rest) > 0 && rest[0].isName() && !rest[0].is("on") {
		x.Name, rest = rest[0].text, rest[1:]
	}
	rest, ok = match(rest, "on only?")
	if !ok || len(rest) == 0 || !rest[0].isName() {
		return x, false
	}
	x.Table, rest = rest[0].text, rest[1:]
	if len(rest) > 1 && rest[0].is(".") && rest[1].isName() {
		x.Schema, x.Table = x.Table, rest[1].text
	}
	return x, true
}
