package dialect

import "slices"

// indexRules apply to CREATE INDEX:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/create-index-syntax-support.html
var indexRules = []Rule{
	begins("CREATE INDEX CONCURRENTLY", "create unique? index async? concurrently", "CONCURRENTLY not supported for CREATE INDEX", Observed, "CREATE INDEX CONCURRENTLY ON t (n)"),
	special("CREATE INDEX USING", "USING not supported for CREATE INDEX", Observed, "CREATE INDEX ASYNC ON t USING btree (n)", when("USING not supported for CREATE INDEX", func(ts []token) bool {
		method, clause := accessMethod(ts)
		return clause != nil && method != "btree_index"
	})),
	special("CREATE INDEX without ASYNC", noSyncIndex, Recorded, "CREATE INDEX ON t (n)", when(noSyncIndex, func(ts []token) bool {
		return has(ts, "create unique? index") && !has(ts, "create unique? index async")
	})),
	special("an index with ASC or DESC", "specifying sort order not supported for index keys", Observed, "CREATE INDEX ASYNC ON t (n DESC)", when("specifying sort order not supported for index keys", func(ts []token) bool {
		return slices.ContainsFunc(keys(ts), func(key []token) bool { return find(key, 1, "asc|desc") > 0 })
	})),
	special("an index with COLLATE", "COLLATE not supported for index keys", Unverified, `CREATE INDEX ASYNC ON t (s COLLATE "C")`, when("COLLATE not supported for index keys", func(ts []token) bool {
		return slices.ContainsFunc(keys(ts), func(key []token) bool { return find(key, 1, "collate") > 0 })
	})),
	special("an index with an operator class", "opclass not supported for index keys", Observed, "CREATE INDEX ASYNC ON t (n int4_ops)", when("opclass not supported for index keys", func(ts []token) bool {
		return slices.ContainsFunc(keys(ts), hasOperatorClass)
	})),
	special("an index with storage parameters or a tablespace", "WITH not supported for CREATE INDEX", Unverified, "CREATE INDEX ASYNC ON t (n) WITH (fillfactor = 70)", func(ts []token) string {
		_, method := accessMethod(ts)
		rest, _ := match(afterIndexed(ts)[len(method):], "() include? ()? nulls? not? distinct?")
		switch {
		case has(rest, "with"):
			return "WITH not supported for CREATE INDEX"
		case has(rest, "tablespace"):
			return "TABLESPACE not supported for CREATE INDEX"
		}
		return ""
	}),
}

const noSyncIndex = "unsupported mode. please use CREATE INDEX ASYNC."

// afterIndexed returns what follows the name of the table in CREATE INDEX.
func afterIndexed(ts []token) []token {
	rest, _ := match(ts, "create unique? index async?")
	rest, _ = match(rest[find(rest, 0, "on")+1:], "only? NAME")
	return rest
}

// accessMethod returns the method of a USING clause and the clause, or nil without one.
func accessMethod(ts []token) (method string, clause []token) {
	after := afterIndexed(ts)
	using, ok := match(after, "using")
	if !ok {
		return "", nil
	}
	method, rest := name(using)
	return method, after[:len(after)-len(rest)]
}

// keys returns the keys of CREATE INDEX ASYNC.
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
	if after, ok := afterParentheses(rest); ok {
		rest = after
	}
	return len(rest) > 0 && rest[0].isName() && !followedBy(rest, "asc", "desc", "nulls", "collate")
}
