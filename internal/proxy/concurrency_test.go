package proxy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/occ"
)

// two begin a transaction each, on a cluster with a parent and a child.
func two(t *testing.T) (first, second *pgx.Conn) {
	t.Helper()
	c := start(t)
	setup := connect(t, c)
	apply(t, setup,
		"CREATE TABLE t (id int PRIMARY KEY, n int)",
		"CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t)",
		"INSERT INTO t SELECT i, 0 FROM generate_series(1, 5) i")
	first, second = connect(t, c), connect(t, c)
	apply(t, first, "BEGIN", "SELECT FROM t")
	apply(t, second, "BEGIN", "SELECT FROM t")
	return first, second
}

func TestTheSecondWriterDoesNotWaitAndLosesAtCommit(t *testing.T) {
	for _, tt := range []struct {
		name, first, second string
		args                []any // of both
		tag                 string
	}{
		{"update, update", "UPDATE t SET n = 1 WHERE id = $1", "UPDATE t SET n = n + 2 WHERE id = $1", []any{1}, "UPDATE 1"},
		{"update, update of more rows", "UPDATE t SET n = 1 WHERE id = $1", "UPDATE t SET n = 2 WHERE id >= $1", []any{1}, "UPDATE 5"},
		{"update, update that also sets by parameter", "UPDATE t SET n = $2 WHERE id = $1", "UPDATE t SET n = $2::int WHERE id = $1", []any{1, 7}, "UPDATE 1"},
		{"delete, update", "DELETE FROM t WHERE id = $1", "UPDATE t SET n = 2 WHERE id = $1", []any{1}, "UPDATE 1"},
		{"update, delete", "UPDATE t SET n = 1 WHERE id = $1", "DELETE FROM t WHERE id = $1", []any{1}, "DELETE 1"},
		{"insert, insert of the same key", "INSERT INTO t VALUES ($1, 1)", "INSERT INTO t VALUES ($1, 2), ($1 + 1, 2)", []any{10}, "INSERT 0 2"},
		{"for update, update", "SELECT FROM t WHERE id = $1 FOR UPDATE", "UPDATE t SET n = 2 WHERE id = $1", []any{1}, "UPDATE 1"},
		{"update, for update", "UPDATE t SET n = 1 WHERE id = $1", "SELECT FROM t WHERE id >= $1 FOR UPDATE", []any{1}, "SELECT 5"},
		{"for update, for update", "SELECT FROM t WHERE id = $1 FOR UPDATE", "SELECT FROM t WHERE id = $1 FOR UPDATE", []any{1}, "SELECT 1"},
		{"delete, for key share", "DELETE FROM t WHERE id = $1", "SELECT FROM t WHERE id = $1 FOR KEY SHARE", []any{1}, "SELECT 1"},
		{"delete of a parent, insert of a child", "DELETE FROM t WHERE id = $1", "INSERT INTO child VALUES (1, $1)", []any{1}, "INSERT 0 1"},
	} {
		for _, mode := range modes {
			t.Run(fmt.Sprintf("%s, %v", tt.name, mode), func(t *testing.T) {
				t.Parallel()
				first, second := two(t)
				args := append([]any{mode}, tt.args...)
				_, err := first.Exec(t.Context(), tt.first, args...)
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				tag, err := second.Exec(ctx, tt.second, args...)
				require.NoError(t, err)
				require.Equal(t, tt.tag, tag.String())
				var one int
				require.NoError(t, second.QueryRow(t.Context(), "SELECT 1", mode).Scan(&one))

				apply(t, first, "COMMIT")
				_, err = second.Exec(t.Context(), "COMMIT")
				requireError(t, err, "40001", "change conflicts with another transaction (OC000)")
				apply(t, second, "BEGIN", "SELECT FROM t", "COMMIT")
			})
		}
	}
}

func TestThoseWhoDoNotConflict(t *testing.T) {
	for _, tt := range []struct{ name, first, second string }{
		{"read, update", "SELECT FROM t", "UPDATE t SET n = 1"},
		{"update, read", "UPDATE t SET n = 1", "SELECT FROM t"},
		{"different rows", "UPDATE t SET n = 1 WHERE id = 1", "UPDATE t SET n = 1 WHERE id = 2"},
		{"update of no key, for key share", "UPDATE t SET n = 1 WHERE id = 1", "SELECT FROM t FOR KEY SHARE"},
		{"update of a parent, insert of a child", "UPDATE t SET n = 1 WHERE id = 1", "INSERT INTO child VALUES (1, 1)"},
		{"insert of different keys", "INSERT INTO t VALUES (10, 1)", "INSERT INTO t VALUES (11, 1)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first, second := two(t)
			apply(t, first, tt.first)
			apply(t, second, tt.second)
			apply(t, first, "COMMIT")
			apply(t, second, "COMMIT")
		})
	}
}

// A later writer, whose snapshot is of before the commit, loses too.
func TestARowThatWasChangedSinceTheSnapshotIsAConflictAtCommit(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			first, second := two(t)
			apply(t, first, "UPDATE t SET n = 1 WHERE id = 1", "COMMIT")
			tag, err := second.Exec(t.Context(), "UPDATE t SET n = 2 WHERE id = $1", mode, 1)
			require.NoError(t, err)
			require.EqualValues(t, 1, tag.RowsAffected())
			_, err = second.Exec(t.Context(), "COMMIT")
			require.Equal(t, occ.DataConflict, occ.ConflictKind(err))
			var n int
			require.NoError(t, second.QueryRow(t.Context(), "SELECT n FROM t WHERE id = 1").Scan(&n))
			require.Equal(t, 1, n)
		})
	}
}

// What a loser has written besides, before and after, is undone with it.
func TestALoserLosesAll(t *testing.T) {
	first, second := two(t)
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 2", "UPDATE t SET n = 2 WHERE id = 1", "UPDATE t SET n = 2 WHERE id = 3")
	apply(t, first, "COMMIT")
	_, err := second.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err))
	var sum int
	require.NoError(t, first.QueryRow(t.Context(), "SELECT sum(n) FROM t").Scan(&sum))
	require.Equal(t, 1, sum)
}

func TestWhereTheAnswerCannotBeMadeUpTheStatementFails(t *testing.T) {
	for _, sql := range []string{
		"UPDATE t SET n = 2 WHERE id = 1 RETURNING n",
		"WITH x AS (UPDATE t SET n = 2 WHERE id = 1 RETURNING n) SELECT * FROM x",
	} {
		for _, mode := range modes {
			first, second := two(t)
			apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
			_, err := second.Exec(t.Context(), sql, mode)
			requireError(t, err, "40001", "change conflicts with another transaction (OC000)")
			require.Equal(t, byte('E'), second.PgConn().TxStatus())
			apply(t, second, "ROLLBACK")
			apply(t, first, "COMMIT")
		}
	}
}

func TestInAutocommitTheStatementCarriesTheConflict(t *testing.T) {
	for _, mode := range modes {
		first, second := two(t)
		apply(t, second, "ROLLBACK")
		apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
		_, err := second.Exec(t.Context(), "UPDATE t SET n = 2 WHERE id = $1", mode, 1)
		requireError(t, err, "40001", "change conflicts with another transaction (OC000)")
		apply(t, second, "SELECT 1")
		apply(t, first, "COMMIT")
	}
}

// DSQL has no deadlocks.
func TestTwoThatCrossDoNotWait(t *testing.T) {
	first, second := two(t)
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 2", "UPDATE t SET n = 2 WHERE id = 1")
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 2")
	_, err := second.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err))
	_, err = first.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err), "each has lost one row to the other")
}

func TestABatchInATransactionLosesAtCommit(t *testing.T) {
	first, second := two(t)
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
	require.Equal(t, 1, n, "what was lost is not seen, unlike at DSQL")
	require.NoError(t, results.Close())
	_, err := second.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err))
	apply(t, first, "COMMIT")
}

// From BEGIN to COMMIT in one pipeline, with one Sync at its end.
func TestATransactionInOnePipelineLosesAtCommit(t *testing.T) {
	first, second := two(t)
	apply(t, second, "ROLLBACK")
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	pipeline := second.PgConn().StartPipeline(t.Context())
	for _, sql := range []string{"BEGIN", "UPDATE t SET n = 2 WHERE id = 1", "SELECT 1", "COMMIT"} {
		pipeline.SendQueryParams(sql, nil, nil, nil, nil)
	}
	require.NoError(t, pipeline.Sync())
	for _, want := range []string{"BEGIN", "UPDATE 1", "SELECT 1"} {
		result, err := pipeline.GetResults()
		require.NoError(t, err)
		tag, err := result.(*pgconn.ResultReader).Close()
		require.NoError(t, err)
		require.Equal(t, want, tag.String())
	}
	requireError(t, pipeline.Close(), "40001", "change conflicts with another transaction (OC000)")
	require.Equal(t, byte('I'), second.PgConn().TxStatus())
	apply(t, first, "COMMIT")
}

func TestASchemaChangeOfAnotherIsMetOncePerSession(t *testing.T) {
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
			_, _ = other.Exec(t.Context(), "SELECT 1") // knows the schema
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

func TestTransactionOfTheExtendedProtocol(t *testing.T) {
	c := start(t)
	pool := withTable(t, c, 1)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	exec := func(sql string) error {
		_, err := conn.Conn().PgConn().ExecParams(t.Context(), sql, nil, nil, nil, nil).Close()
		return err
	}
	for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (1, 0)", "ROLLBACK", "BEGIN", "INSERT INTO t VALUES (2, 0)", "COMMIT"} {
		require.NoError(t, exec(sql), sql)
	}
	require.NoError(t, exec("COMMIT"), "outside a transaction it is a warning")
	require.Equal(t, Stats{Connects: 1, Begins: 2, Commits: 1, Rollbacks: 1}, c.Stats())
}

func TestCommitBehindAFailureInAPipelineIsNotCarriedOut(t *testing.T) {
	c := start(t)
	pool := withTable(t, c, 1)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	pipeline := conn.Conn().PgConn().StartPipeline(t.Context())
	pipeline.SendQueryParams("INSERT INTO t VALUES (1, 0)", nil, nil, nil, nil)
	pipeline.SendQueryParams("SELECT 1/0", nil, nil, nil, nil)
	pipeline.SendQueryParams("COMMIT", nil, nil, nil, nil)
	require.NoError(t, pipeline.Sync())
	var told *pgconn.PgError
	require.ErrorAs(t, pipeline.Close(), &told)
	require.Equal(t, "22012", told.Code)
	require.Equal(t, byte('E'), conn.Conn().PgConn().TxStatus(), "it is still to be rolled back")
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)

	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	pipeline = conn.Conn().PgConn().StartPipeline(t.Context())
	pipeline.SendQueryParams("INSERT INTO t VALUES (1, 0)", nil, nil, nil, nil)
	pipeline.SendQueryParams("COMMIT", nil, nil, nil, nil)
	pipeline.SendQueryParams("SELECT 2", nil, nil, nil, nil)
	require.NoError(t, pipeline.Sync())
	require.NoError(t, pipeline.Close())
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 1, n)
}

// DDL goes through whatever is open, and what is open meets it.
func TestDDLDoesNotWaitForOpenTransactions(t *testing.T) {
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
					first, second := two(t)
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

func TestDDLThatFailsInATransactionEndsIt(t *testing.T) {
	for _, mode := range modes {
		conn := connect(t, start(t))
		apply(t, conn, "BEGIN")
		_, err := conn.Exec(t.Context(), "CREATE TABLE t (c money)", mode)
		requireError(t, err, "0A000", "datatype money not supported")
		require.Equal(t, byte('E'), conn.PgConn().TxStatus())
		apply(t, conn, "ROLLBACK", "CREATE TABLE t (id int)")
	}
}
