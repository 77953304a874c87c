package proxy

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/occ"
)

// conflicts are pairs of statements that conflict, on the tables of beginTwo.
var conflicts = []struct {
	name, first, second string
	args                []any  // of both statements
	firstTag, secondTag string // of the replies
}{
	{"update, update", "UPDATE t SET n = 1 WHERE id = $1", "UPDATE t SET n = n + 2 WHERE id = $1", []any{1}, "UPDATE 1", "UPDATE 1"},
	{"update, update of more rows", "UPDATE t SET n = 1 WHERE id = $1", "UPDATE t SET n = 2 WHERE id >= $1", []any{1}, "UPDATE 1", "UPDATE 5"},
	{"update, update that also sets by parameter", "UPDATE t SET n = $2 WHERE id = $1", "UPDATE t SET n = $2::int WHERE id = $1", []any{1, 7}, "UPDATE 1", "UPDATE 1"},
	{"returning", "UPDATE t SET n = 1 WHERE id = $1 RETURNING n", "UPDATE t SET n = n + 2 WHERE id = $1 RETURNING id, n", []any{1}, "UPDATE 1", "UPDATE 1"},
	{"with", "WITH x AS (UPDATE t SET n = 1 WHERE id = $1 RETURNING n) SELECT * FROM x", "WITH x AS (DELETE FROM t WHERE id = $1 RETURNING n) SELECT n FROM x", []any{1}, "SELECT 1", "SELECT 1"},
	{"upsert, upsert", "INSERT INTO t VALUES ($1, 0) ON CONFLICT (id) DO UPDATE SET n = 8", "INSERT INTO t VALUES ($1, 0) ON CONFLICT (id) DO UPDATE SET n = 9", []any{1}, "INSERT 0 1", "INSERT 0 1"},
	{"qualified names", "UPDATE public.t SET n = 1 WHERE id = $1", `UPDATE "public".t SET n = n + 2 WHERE public.t.id = $1`, []any{1}, "UPDATE 1", "UPDATE 1"},
	{"delete, update", "DELETE FROM t WHERE id = $1", "UPDATE t SET n = 2 WHERE id = $1", []any{1}, "DELETE 1", "UPDATE 1"},
	{"delete, delete", "DELETE FROM t WHERE id = $1", "DELETE FROM t WHERE id = $1", []any{1}, "DELETE 1", "DELETE 1"},
	{"insert, insert of the same key", "INSERT INTO t VALUES ($1, 1)", "INSERT INTO t VALUES ($1, 2), ($1 + 1, 2)", []any{10}, "INSERT 0 1", "INSERT 0 2"},
	{"for update, update", "SELECT FROM t WHERE id = $1 FOR UPDATE", "UPDATE t SET n = 2 WHERE id = $1", []any{1}, "SELECT 1", "UPDATE 1"},
	{"for update, for update of more rows", "SELECT FROM t WHERE id = $1 FOR UPDATE", "SELECT FROM t WHERE id >= $1 FOR UPDATE", []any{1}, "SELECT 1", "SELECT 5"},
	{"for update, for key share", "SELECT FROM t WHERE id = $1 FOR UPDATE", "SELECT FROM t WHERE id = $1 FOR KEY SHARE", []any{1}, "SELECT 1", "SELECT 1"},
	{"delete, for key share", "DELETE FROM t WHERE id = $1", "SELECT FROM t WHERE id = $1 FOR KEY SHARE", []any{1}, "DELETE 1", "SELECT 1"},
	{"update of the key, for key share", "UPDATE t SET id = 20 WHERE id = $1", "SELECT FROM t WHERE id = $1 FOR KEY SHARE", []any{1}, "UPDATE 1", "SELECT 1"},
	{"delete of a parent, insert of a child", "DELETE FROM t WHERE id = $1", "INSERT INTO child VALUES (1, $1)", []any{1}, "DELETE 1", "INSERT 0 1"},
}

const lostWords = "change conflicts with another transaction (OC000)"

// Both write, then both commit, in either order: the first to commit wins.
func TestFirstToCommitWins(t *testing.T) {
	for _, tt := range conflicts {
		for _, mode := range modes {
			for _, winner := range []string{"first", "second"} {
				t.Run(fmt.Sprintf("%s, %v, %s wins", tt.name, mode, winner), func(t *testing.T) {
					t.Parallel()
					first, second := beginTwo(t)
					requireTag(t, first, mode, tt.firstTag, tt.first, tt.args...)
					requireTag(t, second, mode, tt.secondTag, tt.second, tt.args...)
					winning, losing := first, second
					if winner == "second" {
						winning, losing = second, first
					}
					requireTag(t, losing, mode, "SELECT 1", "SELECT 1")
					apply(t, winning, "COMMIT")
					requireTag(t, losing, mode, "SELECT 1", "SELECT 1")
					_, err := losing.Exec(t.Context(), "COMMIT", mode)
					requireError(t, err, "40001", lostWords)
					apply(t, losing, "BEGIN", "SELECT FROM t", "COMMIT")
				})
			}
		}
	}
}

// The one that is still open when the other rolls back commits.
func TestRollbackLetsTheOtherCommit(t *testing.T) {
	for _, tt := range conflicts {
		for _, winner := range []string{"first", "second"} {
			t.Run(fmt.Sprintf("%s, %s wins", tt.name, winner), func(t *testing.T) {
				t.Parallel()
				first, second := beginTwo(t)
				requireTag(t, first, modes[0], tt.firstTag, tt.first, tt.args...)
				requireTag(t, second, modes[0], tt.secondTag, tt.second, tt.args...)
				winning, other := first, second
				if winner == "second" {
					winning, other = second, first
				}
				apply(t, other, "ROLLBACK")
				apply(t, winning, "COMMIT")
			})
		}
	}
}

// One commits before the other writes, but after its snapshot.
func TestSnapshotOlderThanACommitConflicts(t *testing.T) {
	for i, tt := range conflicts {
		for _, mode := range modes[i%len(modes) : i%len(modes)+1] {
			t.Run(fmt.Sprintf("%s, %v", tt.name, mode), func(t *testing.T) {
				t.Parallel()
				first, second := beginTwo(t)
				requireTag(t, first, mode, tt.firstTag, tt.first, tt.args...)
				apply(t, first, "COMMIT")
				requireTag(t, second, mode, tt.secondTag, tt.second, tt.args...)
				_, err := second.Exec(t.Context(), "COMMIT")
				requireError(t, err, "40001", lostWords)
			})
		}
	}
}

// An autocommit write concurrent with an open writer succeeds, and the open one fails at COMMIT.
func TestAutocommitDuringAnOpenTransaction(t *testing.T) {
	for i, tt := range conflicts {
		for _, mode := range modes[i%len(modes) : i%len(modes)+1] {
			t.Run(fmt.Sprintf("%s, %v", tt.name, mode), func(t *testing.T) {
				t.Parallel()
				first, second := beginTwo(t)
				apply(t, second, "ROLLBACK")
				requireTag(t, first, mode, tt.firstTag, tt.first, tt.args...)
				requireTag(t, second, mode, tt.secondTag, tt.second, tt.args...)
				require.Equal(t, byte('I'), second.PgConn().TxStatus())
				_, err := first.Exec(t.Context(), "COMMIT")
				requireError(t, err, "40001", lostWords)
			})
		}
	}
}

// A row that an autocommit statement locks conflicts with transactions that began before.
func TestAutocommitLockBeforeAWrite(t *testing.T) {
	for _, mode := range modes {
		first, second := beginTwo(t)
		apply(t, second, "ROLLBACK")
		requireInt(t, first, mode, 0, "SELECT n FROM t WHERE id = 1")
		requireInt(t, second, mode, 0, "SELECT n FROM t WHERE id = $1 FOR UPDATE", 1)
		require.Equal(t, byte('I'), second.PgConn().TxStatus())
		requireTag(t, first, mode, "UPDATE 1", "UPDATE t SET n = $1 WHERE id = 1", 1)
		_, err := first.Exec(t.Context(), "COMMIT")
		requireError(t, err, "40001", lostWords)
	}
}

// requireTag executes a statement, which must not wait, and checks the command tag.
func requireTag(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode, tag, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := conn.Exec(ctx, sql, append([]any{mode}, args...)...)
	require.NoError(t, err, sql)
	require.Equal(t, tag, got.String(), sql)
}

func requireInt(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode, want int, sql string, args ...any) {
	t.Helper()
	var got int
	require.NoError(t, conn.QueryRow(t.Context(), sql, append([]any{mode}, args...)...).Scan(&got), sql)
	require.Equal(t, want, got, sql)
}

// A transaction that will fail at COMMIT sees its own writes and its snapshot until then.
func TestConflictedTransactionSeesItsOwnWrites(t *testing.T) {
	for _, mode := range modes {
		for _, committed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, the other has committed: %t", mode, committed), func(t *testing.T) {
				t.Parallel()
				first, second := beginTwo(t)
				requireTag(t, first, mode, "UPDATE 1", "UPDATE t SET n = 1 WHERE id = $1", 1)
				requireTag(t, first, mode, "INSERT 0 1", "INSERT INTO t VALUES ($1, 100)", 9)
				apply(t, first, "SET LOCAL application_name = 'mine'")
				requireInt(t, second, mode, 2, "UPDATE t SET n = n + 2 WHERE id = $1 RETURNING n", 1)
				if committed {
					apply(t, second, "COMMIT")
				}
				requireInt(t, first, mode, 101, "SELECT sum(n) FROM t")
				requireInt(t, first, mode, 11, "UPDATE t SET n = n + 10 WHERE id = $1 RETURNING n", 1)
				requireTag(t, first, mode, "DELETE 1", "DELETE FROM t WHERE id = $1", 9)
				requireTag(t, first, mode, "INSERT 0 1", "INSERT INTO child VALUES (1, $1)", 2)
				requireInt(t, first, mode, 1, "SELECT count(*) FROM child")
				requireInt(t, first, mode, 11, "SELECT sum(n) FROM t")
				var name string
				require.NoError(t, first.QueryRow(t.Context(), "SHOW application_name").Scan(&name))
				require.Equal(t, "mine", name)
				if !committed {
					requireInt(t, second, mode, 2, "SELECT sum(n) FROM t")
					apply(t, second, "COMMIT")
				}
				_, err := first.Exec(t.Context(), "COMMIT")
				requireError(t, err, "40001", lostWords)
				requireInt(t, first, mode, 2, "SELECT sum(n) FROM t")
				requireInt(t, first, mode, 0, "SELECT count(*) FROM child")
			})
		}
	}
}

// Errors other than the conflict are reported at the statement.
func TestConflictedTransactionGetsOtherErrors(t *testing.T) {
	for sql, code := range map[string]string{
		"INSERT INTO t VALUES (2, 0)":      "23505",
		"INSERT INTO child VALUES (1, 77)": "23503",
		"UPDATE t SET n = 1 / (SELECT 0)":  "22012",
		"INSERT INTO t VALUES (NULL, 0)":   "23502",
		"DELETE FROM t WHERE nonsense":     "42703",
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			first, second := beginTwo(t)
			apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
			apply(t, second, "UPDATE t SET n = 2 WHERE id = 1", "COMMIT")
			_, err := first.Exec(t.Context(), sql)
			require.ErrorContains(t, err, code)
			require.Equal(t, byte('E'), first.PgConn().TxStatus())
			apply(t, first, "ROLLBACK", "SELECT 1")
		})
	}
}

// A key that was committed before the transaction began is a violation at the statement.
func TestCommittedKeyIsAViolation(t *testing.T) {
	for _, mode := range modes {
		first, second := beginTwo(t)
		apply(t, first, "INSERT INTO t VALUES (10, 0)", "COMMIT")
		apply(t, second, "ROLLBACK", "BEGIN")
		_, err := second.Exec(t.Context(), "INSERT INTO t VALUES ($1, 0)", mode, 10)
		require.ErrorContains(t, err, `duplicate key value violates unique constraint "t_pkey" (SQLSTATE 23505)`)
		apply(t, second, "ROLLBACK")
	}
}

func TestReadOnlyForUpdateLocksNothing(t *testing.T) {
	for _, mode := range modes {
		first, second := beginTwo(t)
		apply(t, first, "ROLLBACK", "BEGIN READ ONLY")
		requireInt(t, first, mode, 0, "SELECT n FROM t WHERE id = $1 FOR UPDATE", 1)
		requireTag(t, first, mode, "SELECT 1", "SELECT FROM t WHERE id = $1 FOR KEY SHARE", 1)
		requireTag(t, second, mode, "UPDATE 1", "UPDATE t SET n = 1 WHERE id = $1", 1)
		requireInt(t, first, mode, 0, "SELECT n FROM t WHERE id = $1 FOR UPDATE", 1)
		apply(t, first, "COMMIT")
		apply(t, second, "COMMIT")
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

// Other writes of the failed transaction, before and after, are rolled back too.
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

// DSQL has no deadlocks.
func TestCrosswiseWritersDoNotBlock(t *testing.T) {
	first, second := beginTwo(t)
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 2", "UPDATE t SET n = 2 WHERE id = 1")
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 2")
	apply(t, second, "COMMIT")
	_, err := first.Exec(t.Context(), "COMMIT")
	require.True(t, occ.IsConflict(err), "one of them wins")
}

// A message that fails ends the batch, also if the transaction has yielded: there is one error.
func TestSyntaxErrorAfterAYield(t *testing.T) {
	first, second := beginTwo(t)
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 1")
	f := first.PgConn().Frontend()
	f.SendParse(&pgproto3.Parse{Query: "SELEC 1"})
	f.SendBind(&pgproto3.Bind{})
	f.SendExecute(&pgproto3.Execute{})
	f.SendSync(&pgproto3.Sync{})
	require.NoError(t, f.Flush())
	var codes []string
	for ready := false; !ready; {
		m, err := f.Receive()
		require.NoError(t, err)
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			codes = append(codes, m.Code)
		case *pgproto3.ReadyForQuery:
			ready = true
		}
	}
	require.Equal(t, []string{"42601"}, codes)
	apply(t, second, "COMMIT")
}

// A unique index that could not be built does not affect a transaction that will fail at COMMIT.
func TestConflictedTransactionWithAnInvalidIndex(t *testing.T) {
	first, second := beginTwo(t, "INSERT INTO t VALUES (40, 4), (41, 4)", "CREATE UNIQUE INDEX ASYNC t_n ON t (n)")
	apply(t, first, "UPDATE t SET n = 91 WHERE id = 40")
	apply(t, second, "UPDATE t SET n = 92 WHERE id = 40", "COMMIT")
	requireInt(t, first, pgx.QueryExecModeExec, 91, "SELECT n FROM t WHERE id = 40")
	requireInt(t, first, pgx.QueryExecModeExec, 4, "SELECT n FROM t WHERE id = 41")
	_, err := first.Exec(t.Context(), "COMMIT")
	requireError(t, err, "40001", lostWords)
}

// A transaction that executes a long statement keeps its rows, and others do not wait.
func TestWriteDuringALongStatement(t *testing.T) {
	for _, mode := range modes {
		first, second := beginTwo(t)
		apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
		done := make(chan error, 1)
		go func() {
			_, err := first.Exec(context.Background(), "SELECT pg_sleep(2)")
			done <- err
		}()
		time.Sleep(100 * time.Millisecond)
		requireInt(t, second, mode, 2, "UPDATE t SET n = n + 2 WHERE id = $1 RETURNING n", 1)
		requireInt(t, second, mode, 2, "SELECT sum(n) FROM t")
		select {
		case <-done:
			require.Fail(t, "the write has waited")
		default:
		}
		apply(t, second, "COMMIT")
		require.NoError(t, <-done)
		requireInt(t, first, mode, 1, "SELECT sum(n) FROM t")
		_, err := first.Exec(t.Context(), "COMMIT")
		requireError(t, err, "40001", lostWords)
	}
}

// PostgreSQL names no row when the third of three waits for it, as when DDL holds the table.
func TestThreeWritersOfOneRowHaveNoSchemaConflict(t *testing.T) {
	c := start(t)
	setup := connect(t, c)
	apply(t, setup, "CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 0)")
	holder := connect(t, c)
	apply(t, holder, "BEGIN", "UPDATE t SET n = 1 WHERE id = 1")
	done := make(chan error, 1)
	go func() {
		_, err := holder.Exec(context.Background(), "SELECT pg_sleep(3)")
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	var writers sync.WaitGroup
	for range 4 {
		conn := connect(t, c)
		writers.Go(func() {
			_, err := conn.Exec(t.Context(), "UPDATE t SET n = n + 1 WHERE id = 1")
			if err != nil {
				assert.ErrorContains(t, err, lostWords)
			}
		})
	}
	writers.Wait()
	require.NoError(t, <-done)
}
