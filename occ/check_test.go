package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

func TestCommitCheck(t *testing.T) {
	t.Parallel()
	for _, runner := range []string{"RunTx", "RunSQLTx", "RunBatch"} {
		for name, test := range map[string]struct {
			applied  bool
			err      error
			calls    int
			attempts int
		}{
			"applied":     {true, nil, 1, 1},
			"not applied": {false, nil, 1, 2},
			"unknown":     {false, errors.New("no"), 1, 1},
		} {
			t.Run(runner+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true}), func(st fakepg.Statement) fakepg.Reply {
					return fakepg.Reply{}
				}, first(1, fakepg.Sync, "sync", fakepg.Reply{Cut: true}))
				checks, attempts := 0, 0
				check := occ.WithCommitCheck(func(ctx context.Context) (bool, error) {
					require.NoError(t, ctx.Err())
					checks++
					return test.applied, test.err
				})
				var err error
				switch runner {
				case "RunTx":
					var value int
					value, err = occ.RunTxValue(t.Context(), s.pool, func(tx pgx.Tx) (int, error) {
						attempts++
						return attempts, update(t.Context(), tx)
					}, quick(), check)
					require.Equal(t, test.attempts, value)
				case "RunSQLTx":
					err = occ.RunSQLTx(t.Context(), openSQL(t, s), func(tx *sql.Tx) error {
						attempts++
						return sqlUpdate(t.Context(), tx)
					}, quick(), check)
				case "RunBatch":
					err = occ.RunBatch(t.Context(), s.pool, func(b *pgx.Batch) error {
						attempts++
						b.Queue(updateN, 1)
						return nil
					}, quick(), check)
				}
				require.Equal(t, test.calls, checks)
				require.Equal(t, test.attempts, attempts)
				if test.err == nil {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, test.err)
				require.ErrorAs(t, err, new(*occ.CommitUnknownError))
			})
		}
	}
}

func TestCommitCheckRetriesItsConnection(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true}), first(2, fakepg.Execute, "select", fakepg.Reply{Cut: true}))
	require.NoError(t, occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error { return update(t.Context(), tx) }, quick(),
		occ.WithCommitCheck(func(ctx context.Context) (bool, error) {
			var n int64
			err := s.pool.QueryRow(ctx, selectN, 1).Scan(&n)
			return n == 1, err
		})))
	require.Equal(t, 3, s.Count("select"))
	require.Equal(t, 1, s.Count(commit))
}

// A COMMIT that was cut is applied after the check has found nothing: the second run conflicts with
// it on the key, and finds it.
func TestCommitThatIsAppliedLateIsAppliedOnce(t *testing.T) {
	t.Parallel()
	rows := &fakepg.Rows{}
	var commits atomic.Int64
	s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
		if st.Step == fakepg.Execute && st.SQL == commit {
			switch commits.Add(1) {
			case 1:
				return fakepg.Reply{Cut: true}
			case 2: // the late one is first
				require.Nil(t, rows.Answer(fakepg.Statement{Session: 1, Step: fakepg.Execute, SQL: commit}).Err)
			}
		}
		return rows.Answer(st)
	})
	look := func(ctx context.Context) (bool, error) {
		var n int64
		err := s.pool.QueryRow(ctx, selectN, 1).Scan(&n)
		return n > 0, err
	}
	calls := 0
	require.NoError(t, occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
		calls++
		var n int64
		if err := tx.QueryRow(t.Context(), selectN, 1).Scan(&n); err != nil || n > 0 {
			return err // an earlier run has done it
		}
		return update(t.Context(), tx)
	}, quick(), occ.WithCommitCheck(look)))
	require.Equal(t, 3, calls)
	require.EqualValues(t, 1, rows.Value(1))
}

// The first COMMIT is cut and applied late, and so a later attempt fails for its key: the value is
// that of the first, whatever the others returned.
func TestValueIsOfTheAttemptThatWasAppliedLate(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	for name, test := range map[string]struct {
		conflicts int   // attempts between the first and the one that fails
		check     error // of the second check
	}{
		"two attempts":   {0, nil},
		"three attempts": {1, nil},
		"unknown":        {0, no},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true}),
				first(test.conflicts, fakepg.Execute, commit, conflict()))
			calls, checks := 0, 0
			value, err := occ.RunTxValue(t.Context(), s.pool, func(tx pgx.Tx) (string, error) {
				calls++
				err := update(t.Context(), tx)
				if calls == 2+test.conflicts {
					err = pgError("23505", "duplicate key")
				}
				return string(rune('A' + calls - 1)), err
			}, quick(), occ.WithCommitCheck(func(context.Context) (bool, error) {
				if checks++; checks == 1 {
					return false, nil
				}
				return test.check == nil, test.check
			}))
			require.Equal(t, "A", value)
			require.Equal(t, 2+test.conflicts, calls)
			require.Equal(t, 2, checks)
			if test.check == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, no)
			require.ErrorAs(t, err, new(*occ.CommitUnknownError))
		})
	}
}

// The time ends or the context before the check can be asked again: the error does not deny the
// COMMIT that was cut.
func TestUnknownCommitIsReportedWhenTheCheckCannotBeAskedAgain(t *testing.T) {
	t.Parallel()
	for name, elapsed := range map[string]time.Duration{"context": 0, "time": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			own := errors.New("own")
			calls := 0
			value, err := occ.RunTxValue(ctx, s.pool, func(pgx.Tx) (int, error) {
				if calls++; calls == 1 {
					return 1, nil
				}
				if elapsed == 0 {
					cancel()
				}
				time.Sleep(elapsed)
				return 2, own
			}, quick(), occ.WithMaxElapsed(elapsed), occ.WithCommitCheck(func(context.Context) (bool, error) { return false, nil }))
			require.ErrorIs(t, err, own)
			require.ErrorAs(t, err, new(*occ.CommitUnknownError))
			require.Equal(t, 1, value)
			require.Equal(t, 2, calls)
		})
	}
}

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

func TestIdempotentFunctionIsRunAgainWhenItsConnectionIsLost(t *testing.T) {
	t.Parallel()
	s := startSQL(t, first(2, fakepg.Execute, "select", fakepg.Reply{Cut: true}))
	var n int64
	read := func(ctx context.Context) error { return s.pool.QueryRow(ctx, selectN, 1).Scan(&n) }
	require.Error(t, occ.Retry(t.Context(), read))
	require.NoError(t, occ.Retry(t.Context(), read, occ.WithIdempotent()))
	require.EqualValues(t, 1, n)

	calls := 0
	require.Error(t, occ.Retry(t.Context(), always(&calls, pgError("08006", deniedMessage)), occ.WithIdempotent()))
	require.Equal(t, 1, calls, "a refused role stays refused")
}

// One conflict of many: no transaction without a conflict waits, and the first wait is short.
func TestDelayUnderASerialKeyIsNone(t *testing.T) {
	t.Parallel()
	var seen events
	calls := 0
	require.NoError(t, occ.Retry(t.Context(), func(context.Context) error {
		if calls++; calls == 1 {
			return fakepg.Conflict()
		}
		return nil
	}, occ.WithSerialKey(t.Name()), seen.option()))
	require.Len(t, seen.all, 1)
	require.Zero(t, seen.all[0].Delay)
}

// Serial keys belong to a database handle.
func TestSerialKeysOfTwoDatabasesAreTwo(t *testing.T) {
	t.Parallel()
	a, b := startSQL(t, first(1, fakepg.Execute, commit, conflict())), startSQL(t)
	key := occ.WithSerialKey(strings.Repeat("k", 8))
	calls := 0
	require.NoError(t, occ.RunTx(t.Context(), a.pool, func(pgx.Tx) error {
		if calls++; calls == 2 { // it holds the key of a
			return occ.RunTx(t.Context(), b.pool, func(pgx.Tx) error { return nil }, key)
		}
		return nil
	}, key))
	require.Equal(t, 2, calls)
}
