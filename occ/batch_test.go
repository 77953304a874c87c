package occ_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

func TestRunBatch(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			rows := &fakepg.Rows{}
			s := startSQLMode(t, mode, first(1, fakepg.Execute, "update", conflict()), func(st fakepg.Statement) fakepg.Reply {
				return rows.Answer(st)
			})
			calls := 0
			var n int64
			require.NoError(t, occ.RunBatch(t.Context(), s.pool, func(b *pgx.Batch) error {
				calls++
				b.Queue(updateN, 1)
				b.Queue(updateN, 2)
				b.Queue(selectN, 1).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
				return nil
			}, quick()))
			require.Equal(t, 2, calls)
			require.EqualValues(t, 2, rows.Total())
			require.Zero(t, s.Count("begin"))
			require.Equal(t, 1, s.Sessions())
		})
	}
}

// sender is a wrapper of a pool, as applications have them.
type sender struct{ occ.BatchSender }

func TestRowsOfRunBatchHaveTheirConnection(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := startSQLMode(t, mode)
			for _, db := range []occ.BatchSender{s.pool, s.connect(t), sender{s.pool}} {
				var n int64
				require.NoError(t, occ.RunBatch(t.Context(), db, func(b *pgx.Batch) error {
					b.Queue(selectN, 1).Query(func(rows pgx.Rows) error {
						require.NotNil(t, rows.Conn())
						require.NotNil(t, rows.Conn().TypeMap())
						for rows.Next() {
							require.NotNil(t, rows.Conn())
							require.NoError(t, rows.Scan(&n))
						}
						require.NotNil(t, rows.Conn())
						return rows.Err()
					})
					return nil
				}, quick()))
				require.EqualValues(t, 1, n)
			}
		})
	}
}

func TestRunBatchAtItsCommit(t *testing.T) {
	t.Parallel()
	queue := func(b *pgx.Batch) error { b.Queue(updateN, 1); return nil }
	sync := func(reply fakepg.Reply) *scripted {
		var seen atomic.Int64
		return startSQL(t, func(st fakepg.Statement) fakepg.Reply {
			if st.Step == fakepg.Sync && seen.Add(1) == 1 {
				return reply
			}
			return fakepg.Reply{}
		})
	}
	s := sync(conflict())
	require.NoError(t, occ.RunBatch(t.Context(), s.pool, queue, quick()))
	require.Equal(t, 2, s.Count("update"))

	for name, reply := range map[string]fakepg.Reply{"cut": {Cut: true}, "XX000": failing("XX000", "server unavailable")} {
		s = sync(reply)
		err := occ.RunBatch(t.Context(), s.pool, queue, quick())
		require.ErrorAs(t, err, new(*occ.CommitUnknownError), name)
		require.Equal(t, 1, s.Count("update"))
	}

	s = sync(failing("23505", "duplicate key"))
	require.ErrorContains(t, occ.RunBatch(t.Context(), s.pool, queue, quick()), "duplicate key")
	require.Equal(t, 1, s.Count("update"))
}

// The batch has committed when a function for its results fails, even with a conflict.
func TestRunBatchWhoseFunctionFailsIsNotRunAgain(t *testing.T) {
	t.Parallel()
	rows := &fakepg.Rows{}
	s := startSQL(t, rows.Answer)
	err := occ.RunBatch(t.Context(), s.pool, func(b *pgx.Batch) error {
		b.Queue(updateN, 1).Exec(func(pgconn.CommandTag) error { return fakepg.Conflict() })
		return nil
	}, quick())
	require.ErrorContains(t, err, "occ: the batch has committed, and a function for its results failed")
	require.True(t, occ.IsConflict(err))
	require.EqualValues(t, 1, rows.Value(1))
}

func TestRunBatchRefusesTransactions(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	for _, statement := range []string{"begin", " COMMIT", "update t set n = 1; rollback", "/* x */ start transaction"} {
		err := occ.RunBatch(t.Context(), s.pool, func(b *pgx.Batch) error { b.Queue(statement); return nil })
		require.ErrorContains(t, err, "occ: a batch must not begin or end a transaction")
	}
	own := errors.New("own")
	require.Same(t, own, occ.RunBatch(t.Context(), s.pool, func(*pgx.Batch) error { return own }))
	require.NoError(t, occ.RunBatch(t.Context(), s.pool, func(*pgx.Batch) error { return nil }))
	require.ErrorContains(t, occ.RunBatch(t.Context(), s.pool, func(*pgx.Batch) error { return nil },
		occ.WithTxOptions(pgx.TxOptions{AccessMode: pgx.ReadOnly})), "occ: invalid transaction options")
	require.Zero(t, s.Sessions())
	conn := s.connect(t)
	_, err := conn.Exec(t.Context(), "begin")
	require.NoError(t, err)
	require.ErrorContains(t, occ.RunBatch(t.Context(), conn, func(b *pgx.Batch) error { b.Queue(updateN, 1); return nil }), "nested")
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
