package dialect

import (
	"slices"
	"strings"
)

// kind classifies tokens.
type kind int

const (
	word      kind = iota // a keyword or a name without quotes, in lower case
	quoted                // a name in double quotes, which are off
	literal               // a string constant, its quotes off
	number                // a numeric constant
	parameter             // $1
	symbol                // one character of an operator or of punctuation
)

// token is a lexical unit of SQL with its position.
type token struct {
	kind       kind
	text       string
	start, end int
	depth      int // of parentheses; those of a pair have the depth outside
}

func (t token) is(text string) bool { return (t.kind == word || t.kind == symbol) && t.text == text }

func (t token) isName() bool { return t.kind == word || t.kind == quoted }

// scan tokenizes SQL by PostgreSQL's lexical rules, dropping white space and comments:
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html
func scan(sql string) []token {
	var ts []token
	depth := 0
	for at := 0; at < len(sql); {
		if next := skipSpace(sql, at); next > at {
			at = next
			continue
		}
		t := next(sql, at)
		if n := len(ts); n > 0 && t.continues(ts[n-1], sql) {
			ts[n-1].text += t.text
			ts[n-1].end = t.end
			at = t.end
			continue
		}
		if t.is(")") && depth > 0 {
			depth--
		}
		t.depth = depth
		if t.is("(") {
			depth++
		}
		ts = append(ts, t)
		at = t.end
	}
	return ts
}

// skipSpace returns where the white space or the comment at at ends.
func skipSpace(sql string, at int) int {
	switch {
	case strings.IndexByte(" \t\r\n\f\v", sql[at]) >= 0:
		return at + 1
	case strings.HasPrefix(sql[at:], "--"):
		if i := strings.IndexAny(sql[at:], "\r\n"); i >= 0 {
			return at + i
		}
		return len(sql)
	case strings.HasPrefix(sql[at:], "/*"):
		return skipComment(sql, at)
	}
	return at
}

// skipComment returns where the block comment at at ends; comments nest.
func skipComment(sql string, at int) int {
	depth := 0
	for at < len(sql) {
		switch {
		case strings.HasPrefix(sql[at:], "/*"):
			depth++
			at += 2
		case strings.HasPrefix(sql[at:], "*/"):
			depth--
			at += 2
			if depth == 0 {
				return at
			}
		default:
			at++
		}
	}
	return at
}

// endOf returns the position after the next mark, or the end.
func endOf(sql string, at int, mark string) int {
	if i := strings.Index(sql[at:], mark); i >= 0 {
		return at + i + len(mark)
	}
	return len(sql)
}

// next returns the token at at, which is not white space.
func next(sql string, at int) token {
	c := sql[at]
	switch {
	case c == '\'':
		return quotedToken(sql, at, at+1, literal, false)
	case (c == 'e' || c == 'E') && strings.HasPrefix(sql[at+1:], "'"):
		return quotedToken(sql, at, at+2, literal, true)
	case (c == 'u' || c == 'U') && strings.HasPrefix(sql[at+1:], "&'"):
		return unicodeToken(sql, at, literal)
	case (c == 'u' || c == 'U') && strings.HasPrefix(sql[at+1:], `&"`):
		return unicodeToken(sql, at, quoted)
	case c == '"':
		return quotedToken(sql, at, at+1, quoted, false)
	case isLetter(c):
		end := at + 1
		for end < len(sql) && (isLetter(sql[end]) || isDigit(sql[end]) || sql[end] == '$') {
			end++
		}
		return token{kind: word, text: lower(sql[at:end]), start: at, end: end}
	case isDigit(c), c == '.' && at+1 < len(sql) && isDigit(sql[at+1]):
		end := at + 1
		for end < len(sql) && (isLetter(sql[end]) || isDigit(sql[end]) || sql[end] == '.') {
			end++
		}
		return token{kind: number, text: sql[at:end], start: at, end: end}
	case c == '$':
		return dollarToken(sql, at)
	}
	return token{kind: symbol, text: sql[at : at+1], start: at, end: at + 1}
}

// lower returns a name as PostgreSQL folds it in UTF-8: only ASCII letters.
func lower(name string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// dollarToken reads a parameter, a dollar-quoted string, or a lone dollar.
func dollarToken(sql string, at int) token {
	end := at + 1
	if end < len(sql) && isDigit(sql[end]) {
		for end < len(sql) && isDigit(sql[end]) {
			end++
		}
		return token{kind: parameter, text: sql[at:end], start: at, end: end}
	}
	for end < len(sql) && (isLetter(sql[end]) || isDigit(sql[end])) {
		end++
	}
	if end == len(sql) || sql[end] != '$' {
		return token{kind: symbol, text: "$", start: at, end: at + 1}
	}
	mark := sql[at : end+1]
	end = endOf(sql, at+len(mark), mark)
	return token{kind: literal, text: strings.TrimSuffix(sql[at+len(mark):end], mark), start: at, end: end}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
}

// split returns the statements that semicolons separate, without empty ones.
func split(ts []token) [][]token {
	var statements [][]token
	start, body := 0, 0
	for i, t := range ts {
		switch {
		case t.is("begin") && i > start && isRoutine(ts[start:i]), t.is("case") && body > 0:
			body++ // BEGIN ATOMIC … END, the body of a function
		case t.is("end") && body > 0:
			body--
		case t.is(";") && t.depth == 0 && body == 0:
			if i > start {
				statements = append(statements, ts[start:i])
			}
			start = i + 1
		}
	}
	if start < len(ts) {
		statements = append(statements, ts[start:])
	}
	return statements
}

func isRoutine(ts []token) bool {
	_, ok := match(ts, "create or? replace? function|procedure")
	return ok
}

// match reports whether tokens begin with a pattern, and returns what follows. The
// pattern's words are in lower case; a|b is either word. It may have
//
//	NAME   a name, which may have a schema before it
//	NAMES  one or more, with commas between them
//	TYPE   a data type
//	VALUE  a constant
//	()     a pair of parentheses and what they hold
//	...    whatever is left
//
// What a ? follows may be missing.
func match(ts []token, pattern string) (rest []token, ok bool) {
	for field := range strings.FieldsSeq(pattern) {
		field, optional := strings.CutSuffix(field, "?")
		if after, ok := matchField(ts, field); ok {
			ts = after
		} else if !optional {
			return nil, false
		}
	}
	return ts, true
}

func matchField(ts []token, field string) (rest []token, ok bool) {
	switch field {
	case "...":
		return nil, true
	case "NAME":
		n, rest := name(ts)
		return rest, n != ""
	case "NAMES":
		n, rest := name(ts)
		for n != "" && len(rest) > 0 && rest[0].is(",") {
			n, rest = name(rest[1:])
		}
		return rest, n != ""
	case "TYPE":
		rest := afterType(ts)
		return rest, len(rest) < len(ts)
	case "VALUE":
		if len(ts) > 1 && (ts[0].is("-") || ts[0].is("+")) {
			ts = ts[1:]
		}
		if len(ts) == 0 || ts[0].kind != literal && ts[0].kind != number {
			return nil, false
		}
		return ts[1:], true
	case "()":
		return afterParentheses(ts)
	}
	if len(ts) == 0 || ts[0].kind != word || !slices.Contains(strings.Split(field, "|"), ts[0].text) {
		return nil, false
	}
	return ts[1:], true
}

// fits reports whether a pattern matches all tokens.
func fits(ts []token, pattern string) bool {
	rest, ok := match(ts, pattern)
	return ok && len(rest) == 0
}

func fitsAny(ts []token, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return fits(ts, pattern) })
}

// afterParentheses returns what follows the pair of parentheses at the front.
func afterParentheses(ts []token) (rest []token, ok bool) {
	if len(ts) == 0 || !ts[0].is("(") {
		return nil, false
	}
	for i, t := range ts[1:] {
		if t.is(")") && t.depth == ts[0].depth {
			return ts[i+2:], true
		}
	}
	return nil, false
}

// columnClauses lists the words that clauses of a column begin with. They end its data type.
var columnClauses = []string{
	"storage", "compression", "collate", "options", "constraint", "not", "null", "default", "unique", "primary", "check",
	"references", "generated", "deferrable", "initially",
}

// afterType returns what follows the data type at the front.
func afterType(ts []token) []token {
	for i, t := range ts {
		if t.is(",") || i > 0 && followedBy(ts[i:], columnClauses...) {
			return ts[i:]
		}
	}
	return nil
}

// find returns where a pattern first matches at a depth, or -1.
func find(ts []token, depth int, pattern string) int {
	for i, t := range ts {
		if t.depth != depth || t.kind != word {
			continue
		}
		if _, ok := match(ts[i:], pattern); ok {
			return i
		}
	}
	return -1
}

// name returns the name at the front, without its schema, and what follows it.
func name(ts []token) (n string, rest []token) {
	for len(ts) > 0 && ts[0].isName() {
		n, ts = ts[0].text, ts[1:]
		if len(ts) == 0 || !ts[0].is(".") {
			break
		}
		ts = ts[1:]
	}
	return n, ts
}

// list splits tokens at the commas of a depth.
func list(ts []token, depth int) [][]token {
	var items [][]token
	start := 0
	for i, t := range ts {
		if t.is(",") && t.depth == depth {
			items = append(items, ts[start:i])
			start = i + 1
		}
	}
	return append(items, ts[start:])
}

// inside returns what the parentheses at the front hold.
func inside(ts []token) []token {
	if len(ts) == 0 || !ts[0].is("(") {
		return nil
	}
	for i, t := range ts[1:] {
		if t.is(")") && t.depth == ts[0].depth {
			return ts[1 : i+1]
		}
	}
	return ts[1:]
}
