package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// fakeTx is a transaction of a library that is not database/sql.
type fakeTx struct {
	commit             error
	commits, rollbacks *int
}

func (tx fakeTx) Commit() error   { *tx.commits++; return tx.commit }
func (tx fakeTx) Rollback() error { *tx.rollbacks++; return nil }

func TestRunTxOf(t *testing.T) {
	t.Parallel()
	lost := otherDriver{"40001", "pq: " + dataMessage}
	own, gone := errors.New("own"), errors.New("gone")
	for name, test := range map[string]struct {
		commits   []error // of each attempt
		returns   []error
		want      error
		rollbacks int
	}{
		"commits":          {[]error{nil}, []error{nil}, nil, 0},
		"conflict":         {[]error{nil}, []error{lost, nil}, nil, 1},
		"conflict, commit": {[]error{lost, nil}, []error{nil, nil}, nil, 0},
		"own error":        {nil, []error{own}, own, 1},
		"unknown":          {[]error{gone}, []error{nil}, gone, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begins, calls, commits, rollbacks := 0, 0, 0, 0
			err := occ.RunTxOf(t.Context(), func(context.Context) (fakeTx, error) {
				begins++
				var result error
				if commits < len(test.commits) {
					result = test.commits[commits]
				}
				return fakeTx{result, &commits, &rollbacks}, nil
			}, func(fakeTx) error { calls++; return test.returns[calls-1] }, quick())
			if test.want == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, test.want)
			}
			require.Equal(t, name == "unknown", errors.As(err, new(*occ.CommitUnknownError)))
			require.Equal(t, len(test.returns), calls)
			require.Equal(t, len(test.commits), commits)
			require.Equal(t, test.rollbacks, rollbacks)
			require.Equal(t, begins, calls)
		})
	}
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		commits, rollbacks := 0, 0
		require.PanicsWithValue(t, "p", func() {
			_ = occ.RunTxOf(t.Context(), func(context.Context) (fakeTx, error) { return fakeTx{nil, &commits, &rollbacks}, nil },
				func(fakeTx) error { panic("p") })
		})
		require.Equal(t, 1, rollbacks)
		require.Zero(t, commits)
	})
}

// otherTx is a transaction of another library, whose Commit returns what the test says.
type otherTx struct {
	commits int
	err     error
}

func (tx *otherTx) Commit() error   { tx.commits++; return tx.err }
func (tx *otherTx) Rollback() error { return nil }

func beginOther(tx *otherTx) func(context.Context) (*otherTx, error) {
	return func(context.Context) (*otherTx, error) { return tx, nil }
}

// A library may do more at Commit than commit: a failed write to another server settles nothing.
func TestFailedWriteOfAnotherLibrarysCommitIsUnknown(t *testing.T) {
	t.Parallel()
	tx := &otherTx{err: fmt.Errorf("after commit: %w", &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET})}
	err := occ.RunTxOf(t.Context(), beginOther(tx), func(*otherTx) error { return nil })
	require.ErrorAs(t, err, new(*occ.CommitUnknownError))
	require.Equal(t, 1, tx.commits)
}

// If the rollback succeeds, the connection that was lost is another of the callback's.
func TestLossOfACallbacksOwnConnectionIsNotRetried(t *testing.T) {
	t.Parallel()
	calls := 0
	err := occ.RunTxOf(t.Context(), beginOther(&otherTx{}), func(*otherTx) error {
		calls++
		return fmt.Errorf("reading the upload: %w", io.ErrUnexpectedEOF)
	})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, 1, calls)
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

func TestUnknownCommitOfRunTxOfAndOthersIsFound(t *testing.T) {
	t.Parallel()
	rows := &fakepg.Rows{}
	s := startSQL(t, applied(rows, fakepg.Reply{Cut: true}))
	db := stdlib.OpenDB(*s.pool.Config().ConnConfig)
	defer db.Close()
	calls := 0
	err := occ.RunTxOf(t.Context(), func(ctx context.Context) (*sql.Tx, error) { return db.BeginTx(ctx, nil) },
		func(tx *sql.Tx) error { calls++; return sqlUpdate(t.Context(), tx) }, quick())
	var unknown *occ.CommitUnknownError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, 1, calls)
	require.EqualValues(t, 1, rows.Value(1))
}
