package occ_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/occ"
)

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

// wrapper stands for one around a pool whose batches commit, and whose result functions are called.
type wrapper struct{ batches int }

func (a *wrapper) SendBatch(_ context.Context, b *pgx.Batch) pgx.BatchResults {
	a.batches++
	return wrapperResults{b}
}

type wrapperResults struct{ b *pgx.Batch }

func (r wrapperResults) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, nil }
func (r wrapperResults) Query() (pgx.Rows, error)         { return nil, nil }
func (r wrapperResults) QueryRow() pgx.Row                { return nil }
func (r wrapperResults) Tx() pgx.Tx                       { return nil }
func (r wrapperResults) Close() error {
	for _, q := range r.b.QueuedQueries {
		if err := q.Fn(r); err != nil {
			return err
		}
	}
	return nil
}

func TestBatchOfAWrapperIsNotRunAgainForAnErrorOfAResultFunction(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"write":    &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET},
		"conflict": &pgconn.PgError{Code: "40001", Message: "of another database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := &wrapper{}
			err := occ.RunBatch(t.Context(), db, func(b *pgx.Batch) error {
				b.Queue("insert into t values (1)").Exec(func(pgconn.CommandTag) error { return cause })
				return nil
			}, occ.WithMaxAttempts(3))
			require.ErrorAs(t, err, new(*occ.CommitUnknownError))
			require.Equal(t, 1, db.batches)
		})
	}
}

// A COMMIT that the check did not find may be applied late: giving up does not promise that nothing
// was applied, and a permanent failure asks the check again.
func TestCommitThatTheCheckDidNotFindStaysOpen(t *testing.T) {
	t.Parallel()
	tx := &otherTx{err: io.ErrUnexpectedEOF}
	notFound := occ.WithCommitCheck(func(context.Context) (bool, error) { return false, nil })
	err := occ.RunTxOf(t.Context(), beginOther(tx), func(*otherTx) error { return nil }, notFound, occ.WithMaxAttempts(1))
	var gaveUp *occ.RetryError
	require.ErrorAs(t, err, &gaveUp)
	require.True(t, gaveUp.MaybeApplied)

	late, calls := false, 0
	err = occ.RunTxOf(t.Context(), beginOther(&otherTx{err: io.ErrUnexpectedEOF}), func(*otherTx) error {
		if calls++; calls == 2 {
			late = true // the first COMMIT arrives, and its key is taken
			return &pgconn.PgError{Code: "23505", Message: "duplicate key"}
		}
		return nil
	}, occ.WithCommitCheck(func(context.Context) (bool, error) { return late, nil }))
	require.NoError(t, err)
	require.Equal(t, 2, calls)
}
