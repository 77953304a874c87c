package dsqltest

import "strings"

// control is what a statement does to the transaction.
type control int

const (
	none control = iota
	begin
	commit
	rollback
)

// controlOf tells by a statement's first word, past space and comments. A string of
// several statements controls nothing.
func controlOf(sql string) control {
	word, rest := firstWord(sql)
	if !onlyStatement(rest) {
		return none
	}
	switch word {
	case "begin", "start":
		return begin
	case "commit", "end":
		return commit
	case "rollback", "abort":
		if next, _ := firstWord(strings.TrimPrefix(afterWord(rest, "transaction", "work"), " ")); next == "to" {
			return none // a savepoint
		}
		return rollback
	}
	return none
}

// firstWord is the first word of sql in lower case, and what follows it.
func firstWord(sql string) (word, rest string) {
	rest = skipSpace(sql)
	end := strings.IndexFunc(rest, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	})
	if end < 0 {
		end = len(rest)
	}
	return strings.ToLower(rest[:end]), rest[end:]
}

// afterWord takes one of words off the front of sql, if it is there.
func afterWord(sql string, words ...string) string {
	word, rest := firstWord(sql)
	for _, w := range words {
		if word == w {
			return rest
		}
	}
	return sql
}

// skipSpace takes space and comments off the front.
func skipSpace(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			sql = skipComment(sql[2:])
		default:
			return sql
		}
	}
}

// skipComment skips to the end of a block comment, in which others nest.
func skipComment(sql string) string {
	for depth := 1; depth > 0; {
		i := strings.IndexAny(sql, "*/")
		if i < 0 {
			return ""
		}
		switch {
		case strings.HasPrefix(sql[i:], "*/"):
			depth--
			i++
		case strings.HasPrefix(sql[i:], "/*"):
			depth++
			i++
		}
		sql = sql[i+1:]
	}
	return sql
}

// onlyStatement reports whether nothing but space follows the first semicolon.
// Transaction statements have no quotes that could hide one.
func onlyStatement(sql string) bool {
	_, after, _ := strings.Cut(sql, ";")
	return skipSpace(after) == ""
}
