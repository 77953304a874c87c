package proxy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSchemaConflictOncePerSession(t *testing.T) {
	const words = "schema has been updated by another transaction (OC001)"
	c := start(t)
	one, other := connect(t, c), connect(t, c)
	apply(t, one, "CREATE TABLE t (id int)")
	for name, ddl := range map[string][]string{
		"ddl":                  {"CREATE TABLE ddl (id int)"},
		"ddl in a transaction": {"BEGIN", "CREATE TABLE in_transaction (id int)", "COMMIT"},
		"grant":                {"GRANT SELECT ON t TO PUBLIC"},
		"in a string":          {"SELECT 1; CREATE TABLE in_string (id int)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _ = other.Exec(t.Context(), "SELECT 1") // sees the schema
			apply(t, one, ddl...)
			apply(t, one, "SELECT FROM t")
			_, err := other.Exec(t.Context(), "SELECT 1")
			requireError(t, err, "40001", words)
			apply(t, other, "SELECT 1")
		})
	}
	t.Run("in a transaction, at the statement", func(t *testing.T) {
		apply(t, other, "BEGIN READ ONLY", "SELECT 1")
		apply(t, one, "ALTER TABLE t ADD COLUMN a int")
		_, err := other.Exec(t.Context(), "SELECT 1")
		requireError(t, err, "40001", words)
		_, err = other.Exec(t.Context(), "SELECT 1")
		require.ErrorContains(t, err, "25P02")
		apply(t, other, "ROLLBACK", "SELECT 1")
	})
	t.Run("in a transaction, at COMMIT", func(t *testing.T) {
		apply(t, other, "BEGIN", "SELECT 1")
		apply(t, one, "ALTER TABLE t ADD COLUMN b int")
		_, err := other.Exec(t.Context(), "COMMIT")
		requireError(t, err, "40001", words)
		apply(t, other, "BEGIN", "SELECT 1", "COMMIT")
	})
	t.Run("not by one that is undone or fails", func(t *testing.T) {
		apply(t, one, "BEGIN", "CREATE TABLE undone (id int)", "ROLLBACK")
		_, err := one.Exec(t.Context(), "CREATE TABLE t (id int)")
		require.ErrorContains(t, err, "42P07")
		apply(t, other, "SELECT 1")
	})
	t.Run("not by a new session", func(t *testing.T) {
		apply(t, one, "ALTER TABLE t ADD COLUMN c int")
		apply(t, connect(t, c), "SELECT 1")
	})
	t.Run("not in another cluster", func(t *testing.T) {
		elsewhere := connect(t, start(t))
		apply(t, one, "ALTER TABLE t ADD COLUMN d int")
		apply(t, elsewhere, "SELECT 1")
	})
}

// DDL does not wait for open transactions; these fail with a schema conflict.
func TestDDLAbortsOpenTransactions(t *testing.T) {
	for _, mode := range modes {
		for _, ddl := range [][]string{
			{"ALTER TABLE t ADD COLUMN a int"},
			{"BEGIN", "ALTER TABLE t ADD COLUMN a int", "COMMIT"},
			{"CREATE INDEX ASYNC ON t (n)"},
			{"DROP TABLE child"},
		} {
			for _, next := range []string{"SELECT 1", "COMMIT"} {
				t.Run(fmt.Sprintf("%v, %s, then %s", mode, ddl[0], next), func(t *testing.T) {
					t.Parallel()
					first, second := beginTwo(t)
					apply(t, first, "INSERT INTO child VALUES (1, 1)", "UPDATE t SET n = 1")
					apply(t, second, "ROLLBACK")
					for _, sql := range ddl {
						_, err := second.Exec(t.Context(), sql, mode)
						require.NoError(t, err, sql)
					}
					_, err := first.Exec(t.Context(), next, mode)
					requireError(t, err, "40001", "schema has been updated by another transaction (OC001)")
					if next != "COMMIT" {
						require.Equal(t, byte('E'), first.PgConn().TxStatus())
						apply(t, first, "ROLLBACK")
					}
					var sum int
					require.NoError(t, first.QueryRow(t.Context(), "SELECT sum(n) FROM t", mode).Scan(&sum))
					require.Zero(t, sum)
				})
			}
		}
	}
}

func TestFailedDDLFailsItsTransaction(t *testing.T) {
	for _, mode := range modes {
		conn := connect(t, start(t))
		apply(t, conn, "BEGIN")
		_, err := conn.Exec(t.Context(), "CREATE TABLE t (c money)", mode)
		requireError(t, err, "0A000", "datatype money not supported")
		require.Equal(t, byte('E'), conn.PgConn().TxStatus())
		apply(t, conn, "ROLLBACK", "CREATE TABLE t (id int)")
	}
}
