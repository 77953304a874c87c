package dialect

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseAsyncIndex(t *testing.T) {
	for sql, want := range map[string]AsyncIndex{
		"CREATE INDEX ASYNC ON city (name)":                                    {Table: "city"},
		"create unique index async City_Name on City (name);":                  {Name: "city_name", Table: "city"},
		`CREATE INDEX ASYNC "City;Name" ON "App"."City" (name)`:                {Name: "City;Name", Schema: "App", Table: "City"},
		"CREATE INDEX ASYNC IF NOT EXISTS i ON app.city (name)":                {Name: "i", Schema: "app", Table: "city", IfNotExists: true},
		"-- x\nCREATE /* y */ INDEX ASYNC\ni ON ONLY t (n) WHERE s = 'a;b'":    {Name: "i", Table: "t"},
		"CREATE INDEX ASYNC ÜBUNG ON Épée (n)":                                 {Name: "Übung", Table: "Épée"},
		`CREATE INDEX ASYNC "on" ON t (n)`:                                     {Name: "on", Table: "t"},
		"CREATE UNIQUE INDEX ASYNC IF NOT EXISTS i ON t (a) INCLUDE (b); -- z": {Name: "i", Table: "t", IfNotExists: true},
	} {
		got, ok := ParseAsyncIndex(sql)
		require.True(t, ok, sql)
		require.Equal(t, want, got, sql)
	}
	for _, sql := range []string{
		"", "CREATE INDEX i ON t (n)", "CREATE INDEX ASYNC", "CREATE INDEX ASYNC i", "CREATE INDEX ASYNC i ON", "CREATE TABLE t (n int)",
		"CREATE INDEX ASYNC i ON t (n); DROP TABLE t", "CREATE INDEX CONCURRENTLY i ON t (n)",
	} {
		_, ok := ParseAsyncIndex(sql)
		require.False(t, ok, sql)
	}
}
