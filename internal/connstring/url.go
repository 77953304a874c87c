package connstring

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-dsql/dsql/internal/redact"
)

// URL is scheme://role@host/path?query in parts, as they were written except for the role.
type URL struct{ Role, Host, Path, Query string }

// Param is a parameter of a URL.
type Param struct{ Name, Value string }

// SplitURL reads a URL of a database. It refuses passwords, also those with characters that end the
// part of a URL that they stand in, and does not show them.
func SplitURL(given string) (URL, error) {
	scheme, rest, _ := strings.Cut(given, "://")
	switch strings.ToLower(scheme) {
	case "postgres", "postgresql", "dsql":
	default:
		return URL{}, errors.New("dsql: the URL must begin with postgres://, postgresql:// or dsql://")
	}
	authority, rest := cutBefore(rest, "/?#")
	if strings.Contains(rest, "@") {
		// What stands before it may be a password with a / or a ? in it.
		return URL{}, errors.New("dsql: the URL has an @ after its host name (not shown, it may hold a secret): write it as %40; no password is needed: tokens are made for you")
	}
	if strings.Contains(rest, "#") {
		return URL{}, errors.New("dsql: the URL must not have a fragment: write # as %23")
	}
	path, query := cutBefore(rest, "?")
	u := URL{Host: authority, Path: path, Query: strings.TrimPrefix(query, "?")}
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		var err error
		u.Host = authority[i+1:]
		u.Role, err = url.PathUnescape(authority[:i])
		switch {
		case strings.Contains(authority[:i], ":"):
			return URL{}, errors.New("dsql: the URL has a password: leave it out, tokens are made for you")
		case err != nil:
			return URL{}, errors.New("dsql: the role in the URL has a % that is not followed by two hexadecimal digits: write it as %25")
		case u.Role == "":
			return URL{}, errors.New("dsql: the URL has an empty role before its @: name one, or leave the @ out for admin")
		}
	}
	if strings.Contains(u.Host, ",") {
		return URL{}, errors.New("dsql: the URL names several hosts: use one cluster's endpoint")
	}
	return u, nil
}

// cutBefore cuts s before the first of chars.
func cutBefore(s, chars string) (before, rest string) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// Params returns the parameters in their order. Those before an error are returned with it.
func (u URL) Params() ([]Param, error) {
	var params []Param
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(u.Query, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return params, errors.New("dsql: the name of a parameter of the URL has a % that is not followed by two hexadecimal digits: write it as %25")
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return params, fmt.Errorf("dsql: the URL's %s has a %% that is not followed by two hexadecimal digits: write it as %%25", redact.Value(name))
		}
		if seen[name] {
			return params, fmt.Errorf("dsql: the URL has %s twice: keep one", redact.Value(name))
		}
		seen[name] = true
		params = append(params, Param{name, value})
	}
	return params, nil
}
