package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// The context ends as the callback returns: before COMMIT is sent, in flight, or afterwards. No
// error blames the callback for it, and none denies a COMMIT that the server has seen.
func TestContextThatEndsAtCommit(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(t *testing.T, s *scripted) func(ctx context.Context, id int64, end func()) error{
		"RunTx": func(t *testing.T, s *scripted) func(context.Context, int64, func()) error {
			return func(ctx context.Context, id int64, end func()) error {
				return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(context.WithoutCancel(ctx), updateN, id)
					end()
					return err
				})
			}
		},
		"RunSQLTx": func(t *testing.T, s *scripted) func(context.Context, int64, func()) error {
			db := openSQL(t, s)
			return func(ctx context.Context, id int64, end func()) error {
				return occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(context.WithoutCancel(ctx), updateN, id)
					end()
					return err
				})
			}
		},
		"RunTxOf": func(t *testing.T, s *scripted) func(context.Context, int64, func()) error {
			db := openSQL(t, s)
			return func(ctx context.Context, id int64, end func()) error {
				return occ.RunTxOf(ctx, func(ctx context.Context) (*sql.Tx, error) {
					return db.BeginTx(ctx, nil)
				}, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(context.WithoutCancel(ctx), updateN, id)
					end()
					return err
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows := &fakepg.Rows{}
			s := startSQL(t, rows.Answer)
			transfer := run(t, s)
			var denied []int64
			for id := range int64(200) {
				ctx, cancel := context.WithCancel(t.Context())
				err := transfer(ctx, id, func() { time.AfterFunc(time.Duration(id)*time.Microsecond, cancel) })
				cancel()
				if err == nil {
					require.EqualValues(t, 1, rows.Value(id))
					continue
				}
				require.ErrorIs(t, err, context.Canceled)
				require.NotContains(t, err.Error(), "ended the transaction itself")
				if !errors.As(err, new(*occ.CommitUnknownError)) {
					denied = append(denied, id)
				}
			}
			for _, id := range denied { // at the end, as a COMMIT may be late
				require.Zero(t, rows.Value(id), "the error says that nothing was committed")
			}
		})
	}
}

// canceler is a transaction of another library whose Commit finds that its context has ended.
type canceler struct {
	otherTx
	end func()
}

func (tx *canceler) Commit() error { tx.end(); return tx.otherTx.Commit() }

func TestTransactionThatTheContextEndedIsNotTheCallbacksDoing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	tx := &canceler{otherTx{err: sql.ErrTxDone}, cancel}
	err := occ.RunTxOf(ctx, func(context.Context) (*canceler, error) { return tx, nil }, func(*canceler) error { return nil })
	require.ErrorAs(t, err, new(*occ.CommitUnknownError), "database/sql or another did it, before or after COMMIT")
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, tx.commits)

	tx = &canceler{otherTx{err: sql.ErrTxDone}, func() {}}
	err = occ.RunTxOf(t.Context(), func(context.Context) (*canceler, error) { return tx, nil }, func(*canceler) error { return nil })
	require.ErrorContains(t, err, "the callback ended the transaction itself")
	require.NotErrorAs(t, err, new(*occ.CommitUnknownError))
}

// The check is for COMMITs of RunTx: whether the callback's own was cut, it cannot tell.
func TestCutCommitOfTheCallbackIsNotChecked(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true}))
	calls, checks := 0, 0
	err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		calls++
		_, err := tx.Conn().Exec(t.Context(), commit)
		return err
	}, quick(), occ.WithMaxAttempts(3), occ.WithCommitCheck(func(context.Context) (bool, error) {
		checks++
		return false, nil
	}))
	require.ErrorAs(t, err, new(*occ.CommitUnknownError))
	require.Equal(t, 1, calls)
	require.Zero(t, checks)
}

// The server refuses the batch while a result function fails for a reason of its own.
func TestRefusedBatchWhoseResultFunctionFailsIsNotUnknown(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]fakepg.Reply{
		"unique": failing("23505", "duplicate key value"), "conflict": conflict(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(9, fakepg.Execute, updateN, refusal))
			full := errors.New("the list is full")
			calls := 0
			err := occ.RunBatch(t.Context(), s.pool, func(b *pgx.Batch) error {
				calls++
				b.Queue(selectN, 1).Query(func(rows pgx.Rows) error { return full })
				b.Queue(updateN, 1).Exec(func(pgconn.CommandTag) error { return nil })
				return nil
			}, quick(), occ.WithMaxAttempts(3))
			require.ErrorIs(t, err, full)
			require.ErrorContains(t, err, "the batch was not applied")
			require.NotErrorAs(t, err, new(*occ.CommitUnknownError))
			require.Equal(t, 1, calls)
		})
	}
}
