package occ_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// A FATAL 08P01 closes the connection and refuses what was sent: sending it again cannot help.
func TestRefusedMessageIsNotRetried(t *testing.T) {
	t.Parallel()
	refusal := fakepg.Reply{Err: &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: "invalid message length"}}
	for _, mode := range modes {
		for name, statements := range map[string]int{"with BEGIN": 1, "after another": 2} {
			t.Run(mode.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				s := startSQLMode(t, mode, first(9, fakepg.Execute, "update", refusal))
				calls := 0
				err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
					calls++
					if statements > 1 {
						if _, err := tx.Exec(t.Context(), "insert into t values (1)"); err != nil {
							return err
						}
					}
					return update(t.Context(), tx)
				}, quick())
				require.ErrorContains(t, err, "08P01")
				require.Equal(t, 1, calls)
				require.Equal(t, 1, s.Count("update"))
			})
		}
	}
	t.Run("swallowed", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t, first(9, fakepg.Execute, "update", refusal))
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "insert into t values (1)"); err != nil {
				return err
			}
			require.Error(t, update(t.Context(), tx))
			return nil
		}, quick())
		require.ErrorContains(t, err, "08P01")
		require.Equal(t, 1, s.Count("update"))
	})
	t.Run("RunSQLTx", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t, first(9, fakepg.Execute, "update", refusal))
		err := occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error { return sqlUpdate(t.Context(), tx) }, quick())
		require.ErrorContains(t, err, "08P01")
		require.Equal(t, 1, s.Count("update"))
	})
	t.Run("Retry of an idempotent function", func(t *testing.T) {
		t.Parallel()
		calls := 0
		err := occ.Retry(t.Context(), func(context.Context) error { calls++; return refusal.Err }, occ.WithIdempotent(), quick())
		require.ErrorContains(t, err, "08P01")
		require.Equal(t, 1, calls)
	})
}
