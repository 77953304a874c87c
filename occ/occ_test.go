package occ_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

func TestCallbackMayNotEndTheTransaction(t *testing.T) {
	t.Parallel()
	own := errors.New("own")
	conflicting := error(fakepg.Conflict())
	for _, test := range []struct {
		name    string
		run     func(ctx context.Context, tx pgx.Tx) error
		text    string
		is      error
		commits int
	}{
		{"tx.Commit", func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
			"occ: the callback must not commit: return nil, and RunTx commits", nil, 0},
		{"tx.Commit and nil", func(ctx context.Context, tx pgx.Tx) error { _ = tx.Commit(ctx); return nil },
			"occ: the callback must not commit: return nil, and RunTx commits", nil, 0},
		{"tx.Commit and a conflict", func(ctx context.Context, tx pgx.Tx) error { _ = tx.Commit(ctx); return conflicting },
			"", conflicting, 0},
		{"COMMIT in SQL", func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "commit"); return err },
			"occ: the callback ended the transaction itself, and the server has committed it, so it is not run again: return nil to commit, an error to roll back", nil, 1},
		{"COMMIT in SQL and a conflict", func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, "commit"); return conflicting },
			"", conflicting, 1},
		{"ROLLBACK in SQL", func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "rollback"); return err },
			"occ: the callback ended the transaction itself (a deferred Rollback does so too): return nil to commit, an error to roll back", nil, 0},
		{"tx.Rollback and nil", func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) },
			"occ: the callback ended the transaction itself (a deferred Rollback does so too): return nil to commit, an error to roll back", nil, 0},
		{"tx.Rollback and an error", func(ctx context.Context, tx pgx.Tx) error { _ = tx.Rollback(ctx); return own },
			"own", own, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t)
			calls := 0
			err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				calls++
				require.NoError(t, update(t.Context(), tx))
				return test.run(t.Context(), tx)
			})
			if test.text != "" {
				require.EqualError(t, err, test.text)
			}
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			require.Equal(t, 1, calls)
			require.Equal(t, test.commits, s.Count(commit))
			s.kept(t)
		})
	}
	t.Run("tx.Rollback and a conflict", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t, first(1, fakepg.Execute, "update", conflict()))
		calls := 0
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			calls++
			if err := update(t.Context(), tx); err != nil {
				require.NoError(t, tx.Rollback(t.Context()))
				require.ErrorIs(t, update(t.Context(), tx), pgx.ErrTxClosed)
				return err
			}
			return nil
		}, quick())
		require.NoError(t, err)
		require.Equal(t, 2, calls)
		s.kept(t)
	})
}

func TestRowsLeftOpenAreNoCommit(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		_, err := tx.Query(t.Context(), selectN, 1)
		return err
	})
	require.EqualError(t, err, "occ: the callback left rows or a batch open, so nothing was committed: close them before returning")
	require.Zero(t, s.Count(commit))
}

func TestNestedTransactionFailsAtOnce(t *testing.T) {
	t.Parallel()
	nested := func(pgx.Tx) error { return errors.New("was run") }
	for name, run := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"tx.Begin": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Begin(ctx); return err },
		"tx.BeginTx": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.(occ.TxBeginner).BeginTx(ctx, pgx.TxOptions{})
			return err
		},
		"pgx.BeginFunc":      func(ctx context.Context, tx pgx.Tx) error { return pgx.BeginFunc(ctx, tx, nested) },
		"RunTx on the tx":    func(ctx context.Context, tx pgx.Tx) error { return occ.RunTx(ctx, tx.(occ.TxBeginner), nested) },
		"RunTx on tx.Conn()": func(ctx context.Context, tx pgx.Tx) error { return occ.RunTx(ctx, tx.Conn(), nested) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t)
			err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
				require.ErrorContains(t, run(t.Context(), tx), "occ: DSQL has no savepoints")
				return update(t.Context(), tx) // the transaction continues
			})
			require.NoError(t, err)
			require.Equal(t, 1, s.Count("begin"))
			require.Zero(t, s.Count("savepoint"))
			require.Equal(t, 1, s.Count(commit))
		})
	}
	t.Run("on a connection in a transaction", func(t *testing.T) {
		t.Parallel()
		s := startSQL(t)
		conn := s.connect(t)
		_, err := conn.Begin(t.Context())
		require.NoError(t, err)
		err = occ.RunTx(t.Context(), conn, nested)
		require.ErrorContains(t, err, "occ: DSQL has no savepoints")
		require.Equal(t, 1, s.Count("begin"))
	})
}

func TestKeptTransactionIsClosed(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, commit, conflict()))
	var kept []pgx.Tx
	use := func(tx pgx.Tx) {
		ctx := t.Context()
		_, err := tx.Exec(ctx, updateN, 1)
		require.ErrorIs(t, err, pgx.ErrTxClosed)
		_, err = tx.Query(ctx, selectN, 1)
		require.ErrorIs(t, err, pgx.ErrTxClosed)
		require.ErrorIs(t, tx.QueryRow(ctx, selectN, 1).Scan(new(int64)), pgx.ErrTxClosed)
		_, err = tx.Prepare(ctx, "name", updateN)
		require.ErrorIs(t, err, pgx.ErrTxClosed)
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows(nil))
		require.ErrorIs(t, err, pgx.ErrTxClosed)
		require.ErrorIs(t, tx.SendBatch(ctx, batch(updateN)).Close(), pgx.ErrTxClosed)
		require.ErrorIs(t, tx.Rollback(ctx), pgx.ErrTxClosed)
	}
	err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		for _, old := range kept {
			use(old)
		}
		kept = append(kept, tx)
		return update(t.Context(), tx)
	}, quick())
	require.NoError(t, err)
	require.Len(t, kept, 2)
	use(kept[1])
	require.Equal(t, 2, s.Count("update"))
	require.Zero(t, s.Count("rollback"))
}

func TestPanicAndGoexitRollBack(t *testing.T) {
	t.Parallel()
	value := errors.New("the panic")
	s := startSQL(t)
	require.PanicsWithValue(t, value, func() {
		_ = occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			require.NoError(t, update(t.Context(), tx))
			panic(value)
		})
	})
	require.Equal(t, 1, s.Count("rollback"))
	s.kept(t)

	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			_ = update(t.Context(), tx)
			runtime.Goexit()
			return nil
		})
	}()
	<-done
	require.Equal(t, 2, s.Count("rollback"))
	require.Zero(t, s.Count(commit))
	s.kept(t)
}

func TestTxOptionsGoToEveryAttempt(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(2, fakepg.Execute, commit, conflict()))
	err := occ.RunTx(t.Context(), s.pool, func(pgx.Tx) error { return nil },
		quick(), occ.WithTxOptions(pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}))
	require.NoError(t, err)
	require.Equal(t, 3, s.Count("begin isolation level repeatable read read only"))
}

func TestRunTxValueReturnsTheCommittedValueOnly(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(2, fakepg.Execute, commit, conflict()))
	n := 0
	value, err := occ.RunTxValue(t.Context(), s.pool, func(pgx.Tx) (int, error) { n++; return n, nil }, quick())
	require.NoError(t, err)
	require.Equal(t, 3, value)

	s = startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true}))
	value, err = occ.RunTxValue(t.Context(), s.pool, func(pgx.Tx) (int, error) { return 1, nil })
	var unknown *occ.CommitUnknownError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, 1, value, "it may have been committed")
}

func TestEveryKindOfBeginnerWorks(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, commit, conflict()))
	acquired, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer acquired.Release()
	for _, db := range []occ.TxBeginner{acquired, s.connect(t)} {
		require.NoError(t, occ.RunTx(t.Context(), db, func(tx pgx.Tx) error { return update(t.Context(), tx) }, quick()))
	}
	require.Equal(t, 3, s.Count("begin"))
	require.Equal(t, 2, s.Sessions())
}

func TestContextInTheCallbackKeepsTheConnection(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, statements := range []int{0, 1} { // before the context ends
		calls := 0
		err := occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error {
			calls++
			for range statements {
				require.NoError(t, update(ctx, tx))
			}
			cancel()
			return update(ctx, tx)
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 1, calls)
		require.Equal(t, statements, s.Count("begin"))
		require.Equal(t, statements, s.Count("rollback"))
		s.kept(t)
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
	}
}

// A timeout of the callback's own closes the connection, and is its decision.
func TestTimeoutOfAStatementIsFinal(t *testing.T) {
	t.Parallel()
	statement := newEndable(t.Context())
	release := make(chan struct{})
	s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
		if st.Step == fakepg.Execute && st.SQL == updateN {
			statement.end(context.DeadlineExceeded)
			<-release
		}
		return fakepg.Reply{}
	})
	t.Cleanup(func() { close(release) })
	calls := 0
	err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		calls++
		return update(statement, tx)
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, calls)
}

// mock is a beginner as tests have it: a transaction without a connection.
type mock struct {
	pgx.Tx
	commits int
}

func (m *mock) BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error) { return m, nil }
func (m *mock) Conn() *pgx.Conn                                        { return nil }
func (m *mock) Rollback(context.Context) error                         { return pgx.ErrTxClosed }

func (m *mock) Commit(context.Context) error {
	if m.commits++; m.commits < 3 {
		return fakepg.Conflict()
	}
	return nil
}

func TestMockedTransactionsWork(t *testing.T) {
	t.Parallel()
	m := &mock{}
	require.NoError(t, occ.RunTx(t.Context(), m, func(pgx.Tx) error { return nil }, quick()))
	require.Equal(t, 3, m.commits)
}
