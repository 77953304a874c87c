package dialect

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// In each statement the database is in brackets, and is removed.
func TestNamesWithTheDatabase(t *testing.T) {
	for _, sql := range []string{
		"SELECT FROM a, [postgres.]public.t",
		"SELECT FROM a CROSS JOIN b, [postgres.]public.t, ONLY ([postgres.]public.u)",
		"SELECT FROM ([postgres.]public.t JOIN [POSTGRES.]public.u ON true)",
		"SELECT FROM ((a JOIN [postgres.]public.t USING (id)) JOIN b ON true)",
		"SELECT FROM a JOIN b ON a.id = b.id, [postgres.]public.t WHERE a.id IN (SELECT id FROM b, [postgres.]public.u)",
		"SELECT FROM a JOIN b ON f(a.id, b.id), [postgres.]public.t",
		`SELECT ["postgres".]public.t.a, [postgres.]public.t.*, count([postgres.]public.t.a) FROM ["postgres".]public.t`,
		"SELECT [postgres.]public.f(1), 1::[postgres.]public.d, CAST(1 AS [postgres.]public.d)",
		"SELECT FROM [postgres.]public.f(1) UNION TABLE [postgres.]public.t",
		"SELECT 1; SELECT FROM a, [postgres.]public.t",
		"WITH a AS (SELECT FROM b, [postgres.]public.t) INSERT INTO [postgres.]public.t SELECT FROM a, [postgres.]public.u",
		"INSERT INTO [postgres.]public.t (id) VALUES (1) ON CONFLICT DO NOTHING",
		"UPDATE a SET n = 1 FROM b, [postgres.]public.t",
		"DELETE FROM a USING [postgres.]public.t, [postgres.]public.u WHERE true",
		"DELETE FROM a USING ([postgres.]public.t CROSS JOIN b)",
		"CREATE INDEX ASYNC ON [postgres.]public.t (a)",
		"CREATE TABLE a (n [postgres.]public.d, m [postgres.]public.d)",
		"CREATE TABLE a (LIKE [postgres.]public.t)",
		"CREATE VIEW a AS SELECT FROM b, [postgres.]public.t",
		"ALTER TABLE a ADD COLUMN n [postgres.]public.d",
		"GRANT SELECT, UPDATE ON [postgres.]public.t, [postgres.]public.u TO r",
		"REVOKE SELECT (a) ON b, [postgres.]public.t FROM r",
		"COPY [postgres.]public.t FROM STDIN",
		"DROP TABLE IF EXISTS a, [postgres.]public.t",
		"DROP INDEX [postgres.]public.i",
		"ALTER INDEX [postgres.]public.i RENAME TO j",
		"ALTER SEQUENCE [postgres.]public.s OWNED BY [postgres.]public.t.id",
		"COMMENT ON COLUMN [postgres.]public.t.id IS 'x'",
		"TRUNCATE a, [postgres.]public.t",
		"ANALYZE a, [postgres.]public.t (id)",

		// A schema, a table, an alias and a column may have that name too.
		"SELECT postgres.t.a, postgres.t.*, f(b, postgres.t.b) FROM postgres.t",
		"SELECT postgres.a FROM postgres",
		"SELECT postgres.a FROM [postgres.]public.postgres, a AS postgres",
		"SELECT [postgres.]postgres.t.a FROM [postgres.]postgres.t",
		"SELECT a.postgres, a.postgres.b.c FROM a.postgres",
		"SELECT FROM postgres.t JOIN u ON u.a = postgres.t.a AND (u.b = postgres.t.b) WHERE postgres.t.c IN (1, postgres.t.d)",
		"SELECT a.index, postgres.t.a FROM a, postgres.t GROUP BY a.index, postgres.t.a HAVING postgres.t.a > 0 ORDER BY 1, postgres.t.a",
		"SELECT a IS DISTINCT FROM postgres.t.a, extract(year FROM postgres.t.b) FROM postgres.t",
		"SELECT CASE WHEN true THEN postgres.t.a ELSE postgres.t.b END FROM postgres.t, f(postgres.t.a)",
		"SELECT DISTINCT ON (postgres.t.a) postgres.t.b FROM postgres.t",
		"DELETE FROM a USING postgres.t WHERE a.id = postgres.t.id RETURNING postgres.t.a",
		"UPDATE postgres.t SET a = postgres.t.b + 1",
		"INSERT INTO postgres.t VALUES (1) ON CONFLICT (id) DO UPDATE SET n = postgres.t.n",
		"COMMENT ON COLUMN postgres.t.id IS 'postgres.public.t'",
		"ALTER SEQUENCE s OWNED BY postgres.t.id",
		"CREATE VIEW a AS SELECT f(postgres.t.a) FROM postgres.t",
	} {
		want := sql
		for _, name := range []string{"[postgres.]", "[POSTGRES.]", `["postgres".]`} {
			want = strings.ReplaceAll(want, name, "")
		}
		given := strings.NewReplacer("[", "", "]", "").Replace(sql)
		require.Equal(t, want, withCatalogName(given, scan(given)), given)
	}
}
