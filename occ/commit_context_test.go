package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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
