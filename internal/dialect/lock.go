package dialect

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

// waiting returns a Lock without NOWAIT and SKIP LOCKED: on DSQL no row is locked.
func (s source) waiting(sql string) string {
	start, end := s.lockingClause()
	for i := start + 2; i < end; i++ {
		if named := s.ts[i-1].is("of") || s.ts[i-1].is(",") || s.ts[i-1].is("."); !named && followedBy(s.ts[i:], "nowait", "skip") {
			return s.without(s.ts[i:end])
		}
	}
	return sql
}
