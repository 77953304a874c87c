package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/occ"
)

// COPY reports success, and the conflict at COMMIT.
func TestCopyTakesPart(t *testing.T) {
	for _, winner := range []string{"first", "second"} {
		first, second := beginTwo(t)
		for i, conn := range []*pgx.Conn{first, second} {
			n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"id", "n"}, pgx.CopyFromRows([][]any{{10, i}, {11 + i, i}}))
			require.NoError(t, err)
			require.EqualValues(t, 2, n)
		}
		winning, losing := first, second
		if winner == "second" {
			winning, losing = second, first
		}
		apply(t, winning, "COMMIT")
		requireInt(t, losing, modes[0], 7, "SELECT count(*) FROM t")
		n, err := losing.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"id", "n"}, pgx.CopyFromRows([][]any{{20, 0}}))
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		requireInt(t, losing, modes[0], 8, "SELECT count(*) FROM t")
		_, err = losing.Exec(t.Context(), "COMMIT")
		requireError(t, err, "40001", lostWords)
	}
	first, second := beginTwo(t)
	apply(t, first, "INSERT INTO t VALUES (10, 1)")
	apply(t, second, "ROLLBACK")
	n, err := second.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"id", "n"}, pgx.CopyFromRows([][]any{{10, 2}}))
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	_, err = first.Exec(t.Context(), "COMMIT")
	requireError(t, err, "40001", lostWords)
}

func TestBatchConflictsAtCommit(t *testing.T) {
	first, second := beginTwo(t)
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	var batch pgx.Batch
	batch.Queue("UPDATE t SET n = 2 WHERE id = $1", 2)
	batch.Queue("UPDATE t SET n = 2 WHERE id = $1", 1)
	batch.Queue("SELECT count(*) FROM t WHERE n = 2")
	results := second.SendBatch(t.Context(), &batch)
	for range 2 {
		tag, err := results.Exec()
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}
	var n int
	require.NoError(t, results.QueryRow().Scan(&n))
	require.Equal(t, 2, n)
	require.NoError(t, results.Close())
	apply(t, first, "COMMIT")
	_, err := second.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err))
}

// BEGIN to COMMIT in one pipeline, with one Sync at the end.
func TestPipelineTakesPart(t *testing.T) {
	for _, statements := range [][]string{
		{"BEGIN", "UPDATE t SET n = 2 WHERE id = 1", "SELECT 1", "UPDATE t SET n = 2 WHERE id = 2", "COMMIT"},
		{"UPDATE t SET n = 2 WHERE id = 2", "UPDATE t SET n = 2 WHERE id = 1", "SELECT 1"},
		{"SELECT 1", "UPDATE t SET n = 2 WHERE id = 1"},
	} {
		for _, committed := range []bool{false, true} {
			first, second := beginTwo(t)
			apply(t, second, "ROLLBACK")
			apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
			if committed {
				apply(t, first, "COMMIT")
			}
			pipeline := second.PgConn().StartPipeline(t.Context())
			for _, sql := range statements {
				pipeline.SendQueryParams(sql, nil, nil, nil, nil)
			}
			require.NoError(t, pipeline.Sync())
			for _, sql := range statements {
				result, err := pipeline.GetResults()
				require.NoError(t, err)
				tag, err := result.(*pgconn.ResultReader).Close()
				require.NoError(t, err)
				require.Equal(t, strings.Fields(sql)[0], strings.Fields(tag.String())[0])
			}
			require.NoError(t, pipeline.Close())
			require.Equal(t, byte('I'), second.PgConn().TxStatus())
			if !committed {
				_, err := first.Exec(t.Context(), "COMMIT")
				requireError(t, err, "40001", lostWords)
			}
			requireInt(t, second, modes[0], 2, "SELECT n FROM t WHERE id = 1")
		}
	}
}

// Functions that write report success, and the conflict at COMMIT.
func TestFunctionTakesPart(t *testing.T) {
	for _, mode := range modes {
		first, second := beginTwo(t, "CREATE FUNCTION Add(int) RETURNS int LANGUAGE sql AS 'UPDATE t SET n = n + $1 WHERE id = 1 RETURNING n'")
		requireInt(t, first, mode, 1, "SELECT add(1)")
		requireInt(t, second, mode, 2, "SELECT add(2)")
		requireInt(t, first, mode, 4, "SELECT add(3)")
		apply(t, first, "COMMIT")
		requireInt(t, second, mode, 7, "SELECT add(5)")
		_, err := second.Exec(t.Context(), "COMMIT")
		requireError(t, err, "40001", lostWords)
		requireInt(t, second, mode, 4, "SELECT sum(n) FROM t")

		apply(t, first, "BEGIN", "UPDATE t SET n = 0 WHERE id = 1")
		requireInt(t, second, mode, 5, "SELECT add(1)")
		_, err = first.Exec(t.Context(), "COMMIT")
		requireError(t, err, "40001", lostWords)
	}
}

// Random values that were returned to the client do not change when the transaction yields its rows
// and executes its writes again.
func TestRandomValuesStay(t *testing.T) {
	for _, mode := range modes {
		first, second := beginTwo(t, "CREATE TABLE u (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), r float8)")
		apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
		var id, other, read string
		const insert = "INSERT INTO u (r) VALUES (random()) RETURNING id::text"
		require.NoError(t, first.QueryRow(t.Context(), insert, mode).Scan(&id))
		require.NoError(t, first.QueryRow(t.Context(), "SELECT gen_random_uuid()::text", mode).Scan(&read))
		require.NoError(t, first.QueryRow(t.Context(), insert, mode).Scan(&other))
		require.Len(t, map[string]bool{id: true, read: true, other: true}, 3)
		require.Equal(t, byte('4'), id[14])
		apply(t, second, "UPDATE t SET n = 2 WHERE id = 1", "ROLLBACK")
		apply(t, first, "COMMIT")
		requireInt(t, second, mode, 2, "SELECT count(*) FROM u WHERE id::text IN ($1, $2) AND r BETWEEN 0 AND 1", id, other)
	}
}

// A constraint that is checked at COMMIT does not wait either.
func TestDeferredConstraintTakesPart(t *testing.T) {
	first, second := beginTwo(t, "CREATE TABLE late (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
	apply(t, second, "INSERT INTO late VALUES (1)")
	apply(t, first, "DELETE FROM t WHERE id = 1")
	apply(t, second, "COMMIT")
	_, err := first.Exec(t.Context(), "COMMIT")
	requireError(t, err, "40001", lostWords)
}

// PostgreSQL's wait for a lock is longer at COMMIT, which it cannot execute again.
func TestDeferredConstraintDuringAStatement(t *testing.T) {
	first, second := beginTwo(t, "CREATE TABLE late (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
	apply(t, second, "INSERT INTO late VALUES (1)")
	apply(t, first, "DELETE FROM t WHERE id = 1")
	slept := make(chan error, 1)
	go func() {
		_, err := first.Exec(context.Background(), "SELECT pg_sleep(0.5)")
		slept <- err
	}()
	time.Sleep(100 * time.Millisecond)
	apply(t, second, "COMMIT")
	require.NoError(t, <-slept)
	_, err := first.Exec(t.Context(), "COMMIT")
	requireError(t, err, "40001", lostWords)
}
