package dsqltest

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// A pipeline up to its Sync is one transaction for DDL too.
func TestPipelineIsOneTransaction(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			conn := connect(t, Start(t), dsql.WithPoolConfig(func(c *pgxpool.Config) error { c.ConnConfig.DefaultQueryExecMode = mode; return nil }))
			send := func(statements ...string) error {
				batch := &pgx.Batch{}
				for _, sql := range statements {
					batch.Queue(sql)
				}
				return conn.SendBatch(t.Context(), batch).Close()
			}
			requireTables := func(want ...string) {
				t.Helper()
				var tables []string
				require.NoError(t, conn.QueryRow(t.Context(), "SELECT coalesce(array_agg(tablename::text ORDER BY tablename), '{}') FROM pg_tables WHERE schemaname = 'public'").Scan(&tables))
				require.ElementsMatch(t, want, tables)
				require.Equal(t, byte('I'), conn.PgConn().TxStatus())
			}

			requireError(t, send("CREATE TABLE a (id int)", "CREATE TABLE b (id int)"), "0A000", "multiple ddl statements not supported in a transaction")
			requireTables()
			requireError(t, send("CREATE TABLE a (id int)", "SELECT 1 / (SELECT 0)"), "22012", "division by zero")
			requireTables()
			requireError(t, send("SELECT 1 / (SELECT 0)", "CREATE TABLE a (id int)"), "22012", "division by zero")
			requireTables()
			require.NoError(t, send("SELECT 1", "CREATE TABLE a (id int)", "SELECT 2"))
			requireTables("a")
			requireError(t, send("INSERT INTO a VALUES (1)", "CREATE TABLE b (id int)"), "0A000", "ddl and dml are not supported in the same transaction")
			requireError(t, send("CREATE TABLE b (id int)", "INSERT INTO a VALUES (1)"), "0A000", "ddl and dml are not supported in the same transaction")
			requireTables("a")
			var rows int
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&rows))
			require.Zero(t, rows)
			require.NoError(t, send("CREATE TABLE b (id int)"))
			requireTables("a", "b")
		})
	}
}
