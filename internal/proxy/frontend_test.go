package proxy

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestQueryOfSeveralStatementsIsOneTransaction(t *testing.T) {
	conn := connect(t, start(t))
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY)")
	results, err := conn.PgConn().Exec(t.Context(), "INSERT INTO t VALUES (1); SELECT id FROM t; UPDATE t SET id = 2").ReadAll()
	require.NoError(t, err)
	var tags []string
	for _, r := range results {
		tags = append(tags, r.CommandTag.String())
	}
	require.Equal(t, "INSERT 0 1, SELECT 1, UPDATE 1", strings.Join(tags, ", "))
	for _, sql := range []string{
		"INSERT INTO t VALUES (3); SELECT 1/0",
		"INSERT INTO t VALUES (3); TRUNCATE t",
		"INSERT INTO t VALUES (3); CREATE TABLE u (id int)",
		"INSERT INTO t VALUES (3); COPY t FROM STDIN",
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.Error(t, err, sql)
		require.Equal(t, byte('I'), conn.PgConn().TxStatus(), sql)
	}
	apply(t, conn, "BEGIN; INSERT INTO t VALUES (4); COMMIT; SELECT 1", "BEGIN; CREATE TABLE u (id int); COMMIT; INSERT INTO u VALUES (1)")
	_, err = conn.Exec(t.Context(), "BEGIN; INSERT INTO t VALUES (5); SELECT 1/0")
	require.ErrorContains(t, err, "22012")
	require.Equal(t, byte('E'), conn.PgConn().TxStatus())
	apply(t, conn, "ROLLBACK")
	var ids []int
	rows, _ := conn.Query(t.Context(), "SELECT id FROM t ORDER BY id")
	ids, err = pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.Equal(t, []int{2, 4}, ids)
}

func TestQueryOfSeveralStatementsTakesPart(t *testing.T) {
	first, second := beginTwo(t)
	apply(t, second, "ROLLBACK")
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 1; SELECT 1")
	require.Equal(t, byte('I'), second.PgConn().TxStatus())
	_, err := first.Exec(t.Context(), "COMMIT")
	requireError(t, err, "40001", "change conflicts with another transaction (OC000)")
}
