package connstring

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplitURL(t *testing.T) {
	for given, want := range map[string]URL{
		"postgres://h":                           {Host: "h"},
		"postgresql://h/":                        {Host: "h", Path: "/"},
		"DSQL://app@h:5432/postgres?a=b&c=d":     {"app", "h:5432", "/postgres", "a=b&c=d"},
		"dsql://my%40app%2F%20x@h?a=%40":         {Role: "my@app/ x", Host: "h", Query: "a=%40"},
		"dsql://a+b@[::1]?a=/?":                  {Role: "a+b", Host: "[::1]", Query: "a=/?"},
		"dsql://":                                {},
		"postgres://h/p%6fstgres?":               {Host: "h", Path: "/p%6fstgres"},
		"postgres://h?options=-c%20a%3Db://c":    {Host: "h", Query: "options=-c%20a%3Db://c"},
		"postgres://h/postgres/x?search_path=,x": {Host: "h", Path: "/postgres/x", Query: "search_path=,x"},
	} {
		got, err := SplitURL(given)
		require.NoError(t, err, given)
		require.Equal(t, want, got, given)
	}
}

func TestSplitURLRefuses(t *testing.T) {
	for given, want := range map[string]string{
		"mysql://h":                      "postgres://, postgresql:// or dsql://",
		"postgres://app:hunter2@h":       "the URL has a password",
		"postgres://app:@h":              "the URL has a password",
		"postgres://app:hunter2@x@h":     "the URL has a password",
		"postgres://app:%zzhunter2@h":    "the URL has a password",
		"postgres://app:12/hunter2@h":    "an @ after its host name",
		"postgres://app:12?hunter2@h":    "an @ after its host name",
		"postgres://app:12#hunter2@h":    "an @ after its host name",
		"postgres://app@h/x?a=b@hunter2": "an @ after its host name",
		"postgres://@h":                  "empty role",
		"postgres://a%zz@h":              "the role in the URL has a %",
		"postgres://h,h/postgres":        "several hosts",
		"postgres://h:5432,h:5432":       "several hosts",
		"postgres://h/postgres#hunter2":  "fragment",
	} {
		got, err := SplitURL(given)
		require.ErrorContains(t, err, want, given)
		require.Zero(t, got, given)
		require.True(t, strings.HasPrefix(err.Error(), "dsql: "), given)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestParams(t *testing.T) {
	for query, want := range map[string][]Param{
		"":                      nil,
		"&a=b&&":                {{"a", "b"}},
		"b=1&a=2":               {{"b", "1"}, {"a", "2"}},
		"a&b=":                  {{"a", ""}, {"b", ""}},
		"a=b=c&d=x+y%2Bz&e%5Ff": {{"a", "b=c"}, {"d", "x y+z"}, {"e_f", ""}},
	} {
		got, err := URL{Query: query}.Params()
		require.NoError(t, err, query)
		require.Equal(t, want, got, query)
	}
	for query, want := range map[string]string{
		"a=1&b%zz=hunter2":   "the name of a parameter of the URL has a %",
		"a=1&b=hunter2%zz":   `the URL's "b" has a %`,
		"a=1&a=hunter2":      `the URL has "a" twice`,
		"a=1&%61=hunter2":    `the URL has "a" twice`,
		"a=1&a=hunter2%zz&c": `the URL's "a" has a %`,
	} {
		got, err := URL{Query: query}.Params()
		require.ErrorContains(t, err, want, query)
		require.NotContains(t, err.Error(), "hunter2")
		require.Equal(t, []Param{{"a", "1"}}, got, "those before the error")
	}
}
