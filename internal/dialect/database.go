package dialect

// namesDatabase reports whether a token is the database before a schema. A column's name has it
// only in four parts: one of three begins with a schema that is called postgres.
func namesDatabase(ts []token, i int) bool {
	if ts[i].text != "postgres" || !ts[i].isName() || i == 0 || ts[i-1].is(".") {
		return false
	}
	parts, rest := 1, ts[i+1:]
	for len(rest) > 1 && rest[0].is(".") && (rest[1].isName() || rest[1].is("*")) {
		parts++
		rest = rest[2:]
	}
	function := len(rest) > 0 && rest[0].is("(")
	return parts == 4 || parts == 3 && (function || !isColumn(ts, i))
}

// isColumn reports whether a name is where an expression may be, so it is not a table's or a type's.
// It looks for the word before it that begins the clause.
func isColumn(ts []token, i int) bool {
	start := i
	for start > 0 && !(ts[start-1].is(";") && ts[start-1].depth == 0) {
		start--
	}
	ts, i = ts[start:], i-start
	switch {
	case i == 0 || followedBy(ts, "grant", "revoke"):
		return false
	case ts[i-1].is(":"), followedBy(ts[i-1:], "as", "type"):
		return false
	case followedBy(ts[i-1:], "column"):
		return true
	}
	depth := ts[i].depth
	comma, condition := false, false // in a list; after ON in FROM
	for i--; i > 0; i-- {
		t := ts[i]
		switch {
		case t.depth > depth, ts[i-1].is("."):
		case t.is("(") && t.depth < depth:
			switch {
			case definesColumns(ts[:i]):
				return false
			case ts[i-1].isName() && !followedBy(ts[i-1:], "from", "join", "using", "only"):
				return true // an operand, or arguments
			}
			depth, comma = t.depth, false
		case t.is(","):
			comma = true
		case t.is("on"):
			condition = condition || !comma
		case t.is("from") && (ts[i-1].is("distinct") || isArgument(ts[:i], depth)):
			return true
		case followedBy(ts[i:], "from", "join", "using"):
			return condition
		case followedBy(ts[i:], "into", "update", "table"):
			return false
		case followedBy(ts[i:], "select", "where", "having", "by", "set", "returning", "values", "when", "limit", "offset"):
			return true
		}
	}
	return followedBy(ts, "select", "values")
}

// definesColumns reports whether parentheses after the tokens have the columns of a table, or the
// parameters of a function.
func definesColumns(ts []token) bool {
	return followedBy(ts, "create") && ts[len(ts)-1].depth == 0 && find(ts, 0, "as") < 0
}

// isArgument reports whether the tokens end in a call such as EXTRACT(YEAR FROM …).
func isArgument(ts []token, depth int) bool {
	for i := len(ts) - 1; i > 0; i-- {
		if ts[i].is("(") && ts[i].depth < depth {
			return followedBy(ts[i-1:], "extract", "trim", "substring", "overlay")
		}
	}
	return false
}
