package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestATransactionThatIsTooOldIsRefusedAtTheStatementAndAtCommit(t *testing.T) {
	for _, late := range []string{"SELECT 1", "COMMIT"} {
		for _, mode := range modes {
			c := start(t)
			conn := connect(t, c)
			apply(t, conn, "BEGIN", "SELECT 1")
			c.transactionAge = time.Nanosecond
			_, err := conn.Exec(t.Context(), late, mode)
			var told *pgconn.PgError
			require.ErrorAs(t, err, &told, late)
			require.Equal(t, "54000", told.Code)
			require.Equal(t, "transaction age limit of 0s exceeded", told.Message)
			require.Equal(t, "Current transaction age 0s exceeds 0s", told.Detail)
			if late != "COMMIT" {
				require.Equal(t, byte('E'), conn.PgConn().TxStatus())
				apply(t, conn, "ROLLBACK")
			}
			require.Equal(t, byte('I'), conn.PgConn().TxStatus())
			apply(t, conn, "SELECT 1")
		}
	}
	require.Equal(t, 300*time.Second, start(t).transactionAge)
}

func TestASessionEndsAtItsAge(t *testing.T) {
	c := start(t)
	require.Equal(t, 60*time.Minute, c.sessionAge)
	c.sessionAge = 300 * time.Millisecond
	idle, busy := connect(t, c), connect(t, c)
	apply(t, busy, "BEGIN")
	require.Eventually(t, func() bool { return idle.Ping(t.Context()) != nil }, testWait, tick)
	apply(t, busy, "SELECT 1", "COMMIT")
	require.Eventually(t, func() bool { return busy.Ping(context.Background()) != nil }, testWait, tick)
}

func TestSizeLimitTellsTheSize(t *testing.T) {
	conn := connect(t, start(t))
	apply(t, conn, "CREATE TABLE t (v text)", "BEGIN", "INSERT INTO t SELECT repeat('x', 1000000) FROM generate_series(1, 10)")
	_, err := conn.Exec(t.Context(), "INSERT INTO t SELECT repeat('x', 1000000) FROM generate_series(1, 2)")
	var told *pgconn.PgError
	require.ErrorAs(t, err, &told)
	require.Equal(t, "54000 transaction size limit 10mb exceeded; Current transaction size 11mb > 10mb", told.Code+" "+told.Message+"; "+told.Detail)
	require.Empty(t, told.Where, "the cluster's own functions are nobody's business")
}

func TestTheCountOfRowsBeginsAnewWithEachTransaction(t *testing.T) {
	conn := connect(t, start(t))
	apply(t, conn, "CREATE TABLE t (id int)")
	for range 2 {
		apply(t, conn, "INSERT INTO t SELECT generate_series(1, 3000)")
		apply(t, conn, "BEGIN", "INSERT INTO t SELECT generate_series(1, 3000)", "ROLLBACK")
	}
	var triggers int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM information_schema.triggers").Scan(&triggers))
	require.Zero(t, triggers)
}

func TestAStringOfStatementsIsOneTransaction(t *testing.T) {
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

func TestAConflictOfAStringOfStatements(t *testing.T) {
	first, second := two(t)
	apply(t, second, "ROLLBACK")
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	_, err := second.Exec(t.Context(), "UPDATE t SET n = 2 WHERE id = 1; SELECT 1")
	requireError(t, err, "40001", "change conflicts with another transaction (OC000)")
	require.Equal(t, byte('I'), second.PgConn().TxStatus())
	apply(t, first, "COMMIT")
}
