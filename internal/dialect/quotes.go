package dialect

import (
	"strconv"
	"strings"
)

// quotedToken reads to the closing quote, which is the character before from and
// stands for itself when doubled.
func quotedToken(sql string, start, from int, k kind, backslashes bool) token {
	quote := sql[from-1]
	var text strings.Builder
	for at := from; at < len(sql); at++ {
		c := sql[at]
		switch {
		case backslashes && c == '\\' && at+1 < len(sql):
			at = unescape(sql, at+1, &text) - 1
		case c != quote:
			text.WriteByte(c)
		case at+1 < len(sql) && sql[at+1] == quote:
			at++
			text.WriteByte(c)
		default:
			return token{kind: k, text: text.String(), start: start, end: at + 1}
		}
	}
	return token{kind: k, text: text.String(), start: start, end: len(sql)}
}

// escapes lists the letters that stand for control characters after a backslash, and these.
const escapes, escaped = "bfnrt", "\b\f\n\r\t"

// unescape writes the character that an escape sequence of E'…' stands for, whose backslash is
// before at, and returns where the sequence ends.
func unescape(sql string, at int, text *strings.Builder) (end int) {
	c := sql[at]
	if i := strings.IndexByte(escapes, c); i >= 0 {
		text.WriteByte(escaped[i])
		return at + 1
	}
	for _, form := range []struct {
		mark           string
		base, min, max int
		char           bool // not a byte
	}{{"", 8, 1, 3, false}, {"x", 16, 1, 2, false}, {"u", 16, 4, 4, true}, {"U", 16, 8, 8, true}} {
		rest, ok := strings.CutPrefix(sql[at:], form.mark)
		if !ok {
			continue
		}
		n, value := digits(rest, form.base, form.max)
		if n < form.min {
			continue
		}
		if form.char {
			text.WriteRune(rune(value))
		} else {
			text.WriteByte(byte(value))
		}
		return at + len(form.mark) + n
	}
	text.WriteByte(c)
	return at + 1
}

// digits reads up to limit digits of a base and returns how many there are, and their value.
func digits(s string, base, limit int) (n, value int) {
	for n < len(s) && n < limit {
		d, err := strconv.ParseUint(s[n:n+1], base, 8)
		if err != nil {
			break
		}
		value = value*base + int(d)
		n++
	}
	return n, value
}

// unicodeToken reads U&'…' or U&"…", and the UESCAPE that may follow.
func unicodeToken(sql string, at int, k kind) token {
	t := quotedToken(sql, at, at+3, k, false)
	escape := "\\"
	after := t.end
	for after < len(sql) && skipSpace(sql, after) > after {
		after = skipSpace(sql, after)
	}
	if len(sql) > after+7 && strings.EqualFold(sql[after:after+7], "uescape") {
		for after += 7; after < len(sql) && skipSpace(sql, after) > after; {
			after = skipSpace(sql, after)
		}
		if after < len(sql) && sql[after] == '\'' {
			mark := quotedToken(sql, after, after+1, literal, false)
			escape, t.end = mark.text, mark.end
		}
	}
	if escape == "" {
		return t
	}
	var text strings.Builder
	for s := t.text; s != ""; {
		before, rest, found := strings.Cut(s, escape)
		text.WriteString(before)
		if !found {
			break
		}
		from, size := 0, 4
		if strings.HasPrefix(rest, "+") {
			from, size = 1, 6
		}
		n, value := digits(rest[from:], 16, size)
		switch {
		case strings.HasPrefix(rest, escape):
			text.WriteString(escape)
			from = len(escape)
		case n == size:
			text.WriteRune(rune(value))
			from += n
		default: // PostgreSQL reports it
			from = 0
		}
		s = rest[from:]
	}
	t.text = text.String()
	return t
}

// continues reports whether a string constant is continued by another, after a line break.
func (t token) continues(last token, sql string) bool {
	return t.kind == literal && last.kind == literal && sql[t.start] == '\'' && sql[last.end-1] == '\'' &&
		strings.Contains(sql[last.end:t.start], "\n")
}
