package occ_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// ways are the ways in which a callback can get an error of the server.
var ways = []struct {
	name     string
	step     fakepg.Step
	prefix   string
	rows     [][]int64
	extended bool // the step is of the extended protocol
	run      func(ctx context.Context, tx pgx.Tx) error
}{
	{"Exec", fakepg.Execute, "update", nil, false, update},
	{"Exec at Parse", fakepg.Parse, "update", nil, true, update},
	{"Exec at Bind", fakepg.Bind, "update", nil, true, update},
	{"Prepare", fakepg.Parse, "update", nil, false, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Prepare(ctx, "name", updateN)
		return err
	}},
	{"QueryRow", fakepg.Execute, "select", nil, false, func(ctx context.Context, tx pgx.Tx) error {
		var n int64
		return tx.QueryRow(ctx, selectN, 1).Scan(&n)
	}},
	{"rows.Err after a row", fakepg.Execute, "select", [][]int64{{1}}, false, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectN, 1)
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		return rows.Err()
	}},
	{"rows.Err after Close", fakepg.Execute, "select", [][]int64{{1}}, false, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectN, 1)
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	}},
	{"CollectRows", fakepg.Execute, "select", [][]int64{{1}, {2}}, false, func(ctx context.Context, tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, selectN, 1)
		_, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	}},
	{"batch Exec", fakepg.Execute, "update", nil, false, func(ctx context.Context, tx pgx.Tx) error {
		results := tx.SendBatch(ctx, batch(updateN))
		_, err := results.Exec()
		return errors.Join(err, results.Close())
	}},
	{"batch Query", fakepg.Execute, "select", [][]int64{{1}}, false, func(ctx context.Context, tx pgx.Tx) error {
		results := tx.SendBatch(ctx, batch(selectN))
		rows, _ := results.Query()
		_, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		return errors.Join(err, results.Close())
	}},
	{"batch QueryRow", fakepg.Execute, "select", nil, false, func(ctx context.Context, tx pgx.Tx) error {
		results := tx.SendBatch(ctx, batch(selectN))
		var n int64
		err := results.QueryRow().Scan(&n)
		return errors.Join(err, results.Close())
	}},
	{"batch Close", fakepg.Execute, "update", nil, false, func(ctx context.Context, tx pgx.Tx) error {
		return tx.SendBatch(ctx, batch(updateN)).Close()
	}},
	{"CopyFrom", fakepg.Execute, "copy", nil, false, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{int64(1)}}))
		return err
	}},
}

func batch(sql string) *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(sql, 1)
	return b
}

func TestConflictIsRetriedWhereverItOccurs(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		for _, way := range ways {
			if way.extended && mode == pgx.QueryExecModeSimpleProtocol {
				continue
			}
			t.Run(fmt.Sprint(mode, "/", way.name), func(t *testing.T) {
				t.Parallel()
				reply := conflict()
				reply.Rows = way.rows
				s := startSQLMode(t, mode, first(2, way.step, way.prefix, reply))
				calls := 0
				var seen events
				err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
					calls++
					return way.run(t.Context(), tx)
				}, quick(), seen.option())
				require.NoError(t, err)
				require.Equal(t, 3, calls)
				require.Len(t, seen.all, 2)
				require.True(t, occ.IsConflict(seen.all[1].Err))
				begun := 3
				if way.name == "Exec at Parse" && mode != pgx.QueryExecModeExec { // pgx prepares before BEGIN
					begun = 1
				}
				require.Equal(t, begun, s.Count("begin"))
				require.Equal(t, begun-1, s.Count("rollback"))
				require.Equal(t, 1, s.Count(commit))
				s.kept(t)
			})
		}
	}
}

func TestSwallowedConflictIsRetriedWhereverItOccurs(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		for _, way := range ways {
			if way.extended && mode == pgx.QueryExecModeSimpleProtocol {
				continue
			}
			t.Run(fmt.Sprint(mode, "/", way.name), func(t *testing.T) {
				t.Parallel()
				reply := conflict()
				reply.Rows = way.rows
				s := startSQLMode(t, mode, first(2, way.step, way.prefix, reply))
				var seen events
				err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
					_ = way.run(t.Context(), tx)
					return nil
				}, quick(), seen.option())
				require.NoError(t, err)
				require.Len(t, seen.all, 2)
				require.True(t, occ.IsConflict(seen.all[0].Err))
				require.ErrorIs(t, seen.all[0].Err, pgx.ErrTxCommitRollback)
				require.Equal(t, 1, s.Count(commit))
				s.kept(t)
			})
		}
	}
}

func TestRowsThatAreOnlyClosedShowTheConflict(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(pgx.Rows){
		"Close": func(rows pgx.Rows) { rows.Close() },
		"Next": func(rows pgx.Rows) {
			for rows.Next() {
			}
		},
		"wrong Scan": func(rows pgx.Rows) { rows.Next(); _ = rows.Scan(new(bool), new(bool)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reply := conflict()
			reply.Rows = [][]int64{{1}}
			s := startSQL(t, first(1, fakepg.Execute, "select", reply))
			calls := 0
			err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				calls++
				rows, _ := tx.Query(t.Context(), selectN, 1)
				use(rows)
				return nil
			}, quick())
			require.NoError(t, err)
			require.Equal(t, 2, calls)
		})
	}
}

func TestErrorAfterASwallowedConflictIsTheConflict(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, "update", conflict()))
	calls := 0
	err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		calls++
		_ = update(t.Context(), tx)
		return update(t.Context(), tx) // 25P02: the transaction is aborted
	}, quick())
	require.NoError(t, err)
	require.Equal(t, 2, calls)
}

func TestConflictAtBeginAndCommit(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{"begin", commit} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(2, fakepg.Execute, statement, conflict()))
			called := 0
			err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				called++
				return update(t.Context(), tx)
			}, quick())
			require.NoError(t, err)
			require.Equal(t, 3, called, "BEGIN travels with the first statement")
			require.Equal(t, 3, s.Count("begin"))
			require.Zero(t, s.Count("rollback"), "the failed COMMIT has ended the transaction")
			s.kept(t)
		})
	}
}

func TestWrappedConflictIsRetried(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for name, wrap := range map[string]func(error) error{
		"with %w":           func(err error) error { return fmt.Errorf("save: %w", err) },
		"in errors.Join":    func(err error) error { return errors.Join(other, err) },
		"in Unwrap []error": func(err error) error { return multiError{other, err} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(1, fakepg.Execute, "update", conflict()))
			calls := 0
			err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				calls++
				if err := update(t.Context(), tx); err != nil {
					return wrap(err)
				}
				return nil
			}, quick())
			require.NoError(t, err)
			require.Equal(t, 2, calls)
		})
	}
}

// What is final is run once, rolled back, and returned as it is.
func TestFinalErrors(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]*pgconn.PgError{
		"row limit":        pgError("54000", "transaction row limit exceeded"),
		"unsupported":      pgError("0A000", "unsupported statement: Truncate"),
		"unique violation": pgError("23505", "duplicate key value: OC000 (OC000) 40001"),
		"foreign key":      pgError("23503", "violates foreign key constraint"),
		"syntax":           pgError("42601", "syntax error"),
		"undefined table":  pgError("42P01", "relation does not exist"),
		"aborted":          pgError("25P02", "current transaction is aborted"),
		"internal":         pgError("XX000", "unexpected node type"),
		"protocol":         pgError("08P01", "invalid message length"),
		"too many open":    pgError("53300", "not at a statement"),
		"deadlock":         pgError("40P01", "deadlock detected"),
		"memory":           pgError("53200", "out of memory"),
		"canceled by user": pgError("57014", "canceling statement due to user request"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(1, fakepg.Execute, "update", fakepg.Reply{Err: err}))
			calls := 0
			got := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				calls++
				return update(t.Context(), tx)
			})
			var pg *pgconn.PgError
			require.ErrorAs(t, got, &pg)
			require.Equal(t, err.Message, pg.Message)
			require.Equal(t, 1, calls)
			require.Equal(t, 1, s.Count("rollback"))
			require.Zero(t, s.Count(commit))
			s.kept(t)
		})
	}
	t.Run("flattened conflict", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t, first(1, fakepg.Execute, "update", conflict()))
		calls := 0
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			calls++
			return fmt.Errorf("save: %v", update(t.Context(), tx))
		})
		require.ErrorContains(t, err, "OC000")
		require.Equal(t, 1, calls)
	})
	t.Run("of the callback", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t)
		own := errors.New("no money")
		err := occ.RunTx(t.Context(), s.pool, func(pgx.Tx) error { return own })
		require.Same(t, own, err)
		require.Zero(t, s.Count("begin"))
		require.Zero(t, s.Count("rollback"))
		s.kept(t)
	})
}

func TestSwallowedErrorIsNoSuccess(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, "update", failing("23505", "duplicate key")))
	calls := 0
	err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		calls++
		_ = update(t.Context(), tx)
		return nil
	})
	require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
	require.EqualError(t, err, "occ: commit unexpectedly resulted in rollback, as a statement had failed and the callback returned nil: ERROR: duplicate key (SQLSTATE 23505)")
	require.Equal(t, 1, calls)

}

// An error that did not come through the transaction may have been a conflict.
func TestSwallowedErrorThatWasNotSeenIsRetriedTwice(t *testing.T) {
	t.Parallel()
	for failures, wanted := range map[int]string{2: "", 3: "commit unexpectedly resulted in rollback, as a statement had failed and the callback returned nil"} {
		s := startSQL(t, first(failures, fakepg.Execute, "update", conflict()))
		calls := 0
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			calls++
			_, _ = tx.Conn().Exec(t.Context(), updateN, 1)
			return nil
		}, quick())
		require.Equal(t, 3, calls)
		if wanted == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
		require.ErrorContains(t, err, wanted)
		require.ErrorContains(t, err, "gave up after 3 attempts")
	}
}
