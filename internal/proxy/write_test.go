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

func TestSecondWriterFailsAtCommit(t *testing.T) {
	for _, tt := range []struct {
		name, first, second string
		args                []any // of both statements
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
				first, second := beginTwo(t)
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

func TestNoConflict(t *testing.T) {
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
			first, second := beginTwo(t)
			apply(t, first, tt.first)
			apply(t, second, tt.second)
			apply(t, first, "COMMIT")
			apply(t, second, "COMMIT")
		})
	}
}

// A later writer whose snapshot is older than the commit conflicts too.
func TestRowChangedSinceTheSnapshotConflictsAtCommit(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			first, second := beginTwo(t)
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

// Other writes of the losing transaction, before and after, are rolled back too.
func TestConflictRollsBackAllWrites(t *testing.T) {
	first, second := beginTwo(t)
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 2", "UPDATE t SET n = 2 WHERE id = 1", "UPDATE t SET n = 2 WHERE id = 3")
	apply(t, first, "COMMIT")
	_, err := second.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err))
	var sum int
	require.NoError(t, first.QueryRow(t.Context(), "SELECT sum(n) FROM t").Scan(&sum))
	require.Equal(t, 1, sum)
}

func TestStatementFailsWhereItsReplyCannotBeSynthesized(t *testing.T) {
	for _, sql := range []string{
		"UPDATE t SET n = 2 WHERE id = 1 RETURNING n",
		"WITH x AS (UPDATE t SET n = 2 WHERE id = 1 RETURNING n) SELECT * FROM x",
	} {
		for _, mode := range modes {
			first, second := beginTwo(t)
			apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
			_, err := second.Exec(t.Context(), sql, mode)
			requireError(t, err, "40001", "change conflicts with another transaction (OC000)")
			require.Equal(t, byte('E'), second.PgConn().TxStatus())
			apply(t, second, "ROLLBACK")
			apply(t, first, "COMMIT")
		}
	}
}

func TestAutocommitConflictsAtTheStatement(t *testing.T) {
	for _, mode := range modes {
		first, second := beginTwo(t)
		apply(t, second, "ROLLBACK")
		apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
		_, err := second.Exec(t.Context(), "UPDATE t SET n = 2 WHERE id = $1", mode, 1)
		requireError(t, err, "40001", "change conflicts with another transaction (OC000)")
		apply(t, second, "SELECT 1")
		apply(t, first, "COMMIT")
	}
}

// DSQL has no deadlocks.
func TestCrosswiseWritersDoNotBlock(t *testing.T) {
	first, second := beginTwo(t)
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 2", "UPDATE t SET n = 2 WHERE id = 1")
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 2")
	_, err := second.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err))
	_, err = first.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err), "each has lost one row to the other")
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
	require.Equal(t, 1, n, "lost writes are not visible, unlike on DSQL")
	require.NoError(t, results.Close())
	_, err := second.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err))
	apply(t, first, "COMMIT")
}

// BEGIN to COMMIT in one pipeline, with one Sync at the end.
func TestPipelineConflictsAtCommit(t *testing.T) {
	first, second := beginTwo(t)
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
