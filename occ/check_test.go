package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
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

// So it is if the second run returns an error that is settled, of another database for example.
func TestLateCommitBehindASettledErrorIsLookedFor(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{false, true} {
		s := startSQL(t, first(1, fakepg.Execute, commit, fakepg.Reply{Cut: true}))
		checks, calls := 0, 0
		settled := &occ.RetryError{Attempts: 1, Err: errors.New("other database")}
		err := occ.RunTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			if calls++; calls > 1 {
				return settled
			}
			return update(t.Context(), tx)
		}, quick(), occ.WithCommitCheck(func(context.Context) (bool, error) {
			checks++
			return checks > 1 && applied, nil
		}))
		require.Equal(t, 2, checks)
		if applied {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, settled)
		}
	}
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
