package occ_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// pgx closes the connection if an argument in a batch cannot be encoded. A callback that goes on
// without the statement still commits, as it would with pgx.
func TestFirstStatementWhoseArgumentsCannotBeEncoded(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	for _, mode := range modes[:3] { // those that know the types
		pool := newClusterPool(t, c, 1, func(p *pgxpool.Config) { p.ConnConfig.DefaultQueryExecMode = mode })
		for _, args := range [][]any{{1, 2}, {struct{}{}}, {int64(1) << 40}} {
			calls, sql := 0, fmt.Sprintf("SELECT $1::int AS \"%v %v\"", mode, args)
			n, err := occ.RunTxValue(t.Context(), pool, func(tx pgx.Tx) (n int, err error) {
				calls++
				if err := tx.QueryRow(t.Context(), sql, args...).Scan(&n); err == nil {
					return 0, fmt.Errorf("%v was encoded", args)
				}
				return n, tx.QueryRow(t.Context(), "SELECT $1::int", 7).Scan(&n)
			}, quick(), occ.WithMaxAttempts(2))
			require.NoError(t, err, "%v %v", mode, args)
			require.Equal(t, 7, n)
			require.LessOrEqual(t, calls, 2)
		}
	}
}

// pgx closes a connection if an argument behind BEGIN cannot be encoded. That happens once for each
// statement, not for each bad request.
func TestArgumentsThatCannotBeEncodedCostOneConnection(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	for _, mode := range modes[:3] {
		for name, statement := range map[string]func(tx pgx.Tx, sql string) error{
			"QueryRow": func(tx pgx.Tx, sql string) error {
				return tx.QueryRow(t.Context(), sql, int64(1)<<40).Scan(new(int))
			},
			"named arguments": func(tx pgx.Tx, sql string) error {
				_, err := tx.Exec(t.Context(), strings.ReplaceAll(sql, "$1", "@n"), pgx.NamedArgs{"n": int64(1) << 40})
				return err
			},
			"SendBatch": func(tx pgx.Tx, sql string) error {
				b := &pgx.Batch{}
				b.Queue(sql, int64(1)<<40)
				return tx.SendBatch(t.Context(), b).Close()
			},
		} {
			pool := newClusterPool(t, c, 1, func(p *pgxpool.Config) { p.ConnConfig.DefaultQueryExecMode = mode })
			sql := fmt.Sprintf("SELECT $1::int AS %q", mode.String()+name)
			for range 10 {
				err := occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error { return statement(tx, sql) })
				require.ErrorContains(t, err, "is greater than maximum value for int4", "%v %s", mode, name)
			}
			require.LessOrEqual(t, pool.Stat().NewConnsCount(), int64(2), "%v %s", mode, name)
			require.NoError(t, pool.Ping(t.Context()))
		}
	}
}

// What the callback is told of a first statement is what it is told where BEGIN is sent by itself,
// as it is to a pool with a tracer.
func TestFirstStatementReturnsAsAfterBegin(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	for _, mode := range modes {
		open := func(tune func(*pgxpool.Config)) *pgxpool.Pool {
			return newClusterPool(t, c, 1, func(p *pgxpool.Config) { p.ConnConfig.DefaultQueryExecMode = mode; tune(p) })
		}
		joint, alone := open(func(*pgxpool.Config) {}), open(func(p *pgxpool.Config) { p.ConnConfig.Tracer = &spans{} })
		for name, statement := range map[string]func(context.Context, pgx.Tx) string{
			"several, with arguments": execFirst("SELECT $1::int; SELECT 1 UNION SELECT 2", 1),
			"several, by names":       execFirst("SELECT 1; SELECT 1 UNION SELECT 2", pgx.NamedArgs{}),
			"several, with an option": execFirst("SELECT 1; SELECT 1 UNION SELECT 2", pgx.QueryExecModeSimpleProtocol),
			"none":                    queryFirst("-- none"),
			"only a semicolon":        queryFirst(";"),
			"semicolon at the end":    queryFirst("SELECT $1::int;\n", 1),
			"formats after names":     queryFirst("SELECT @n::int", pgx.NamedArgs{"n": 1}, pgx.QueryResultFormats{pgx.TextFormatCode}),
			"mode after names":        queryFirst("SELECT @n::int", pgx.NamedArgs{"n": 1}, pgx.QueryExecModeSimpleProtocol),
		} {
			run := func(pool *pgxpool.Pool) (told string) {
				err := occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error { told = statement(t.Context(), tx); return nil })
				return fmt.Sprint(told, err)
			}
			require.Equal(t, run(alone), run(joint), "%v %s", mode, name)
		}
	}
}

func execFirst(sql string, args ...any) func(context.Context, pgx.Tx) string {
	return func(ctx context.Context, tx pgx.Tx) string {
		tag, err := tx.Exec(ctx, sql, args...)
		return fmt.Sprint(tag, err)
	}
}

func queryFirst(sql string, args ...any) func(context.Context, pgx.Tx) string {
	return func(ctx context.Context, tx pgx.Tx) (told string) {
		rows, err := tx.Query(ctx, sql, args...)
		for rows.Next() {
			told += fmt.Sprint(rows.RawValues())
		}
		return fmt.Sprint(told, rows.CommandTag(), err, rows.Err())
	}
}

// A COMMIT of the callback's own with options is one too, and so is one on the connection of rows: if
// it is not answered, nothing is run again.
func TestOwnCommitWithOptionsIsNotRunAgain(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context, pgx.Tx, pgx.Rows) error{
		"mode": func(ctx context.Context, tx pgx.Tx, _ pgx.Rows) error {
			_, err := tx.Exec(ctx, commit, pgx.QueryExecModeExec)
			return err
		},
		"names": func(ctx context.Context, tx pgx.Tx, _ pgx.Rows) error {
			_, err := tx.Exec(ctx, commit, pgx.NamedArgs{})
			return err
		},
		"rows": func(ctx context.Context, _ pgx.Tx, rows pgx.Rows) error {
			_, err := rows.Conn().Exec(ctx, commit)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, calls := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true})), 0
			err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				calls++
				rows, err := tx.Query(t.Context(), selectN, 1)
				if err != nil {
					return err
				}
				rows.Close()
				return end(t.Context(), tx, rows)
			}, quick(), occ.WithMaxAttempts(2))
			require.ErrorAs(t, err, new(*occ.CommitUnknownError))
			require.Equal(t, 1, calls)
		})
	}
}
