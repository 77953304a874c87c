package proxy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

func TestConflictNextRollsBackAtCommit(t *testing.T) {
	for name, commit := range commitWays {
		for words, next := range map[string]func(*Faults, int){
			"change conflicts with another transaction (OC000)":      (*Faults).ConflictNext,
			"schema has been updated by another transaction (OC001)": (*Faults).SchemaConflictNext,
		} {
			t.Run(name+" "+words[len(words)-7:], func(t *testing.T) {
				c := start(t)
				pool := newTable(t, c, 1)
				next(&c.Faults, 1)
				conn, err := pool.Acquire(t.Context())
				require.NoError(t, err)
				for i, want := range []string{words, ""} {
					_, err = conn.Exec(t.Context(), "BEGIN")
					require.NoError(t, err)
					_, err = conn.Exec(t.Context(), "INSERT INTO t VALUES ($1, 0)", i)
					require.NoError(t, err, "the statement succeeds")
					err = commit(t.Context(), conn.Conn())
					if want == "" {
						require.NoError(t, err)
						continue
					}
					var told *pgconn.PgError
					require.ErrorAs(t, err, &told)
					require.Equal(t, "ERROR", told.Severity)
					require.Equal(t, "40001", told.Code)
					require.Equal(t, want, told.Message)
					require.Equal(t, byte('I'), conn.Conn().PgConn().TxStatus(), "the session is usable")
				}
				conn.Release()
				require.Equal(t, 1, countRows(t, pool))
				require.Equal(t, Stats{Connects: 1, Begins: 2, Commits: 1, Conflicts: 1, Retries: 1}, c.Stats())
			})
		}
	}
}

func TestRunTxRetriesInjectedConflicts(t *testing.T) {
	c := start(t)
	pool := newTable(t, c, 1)
	c.Faults.ConflictNext(3)
	attempts := 0
	require.NoError(t, occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
		attempts++
		_, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (1, 0)")
		return err
	}))
	require.Equal(t, 4, attempts)
	require.Equal(t, 1, countRows(t, pool))
	require.Equal(t, 3, c.Stats().Retries)
}

func TestFailedTransactionDoesNotUseUpAConflict(t *testing.T) {
	c := start(t)
	pool := newTable(t, c, 1)
	c.Faults.ConflictNext(1)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT 1/0")
	require.Error(t, err)
	require.ErrorIs(t, tx.Commit(t.Context()), pgx.ErrTxCommitRollback)
	require.Equal(t, 1, c.Stats().Rollbacks)

	tx, err = pool.Begin(t.Context())
	require.NoError(t, err)
	require.True(t, occ.IsConflict(tx.Commit(t.Context())))
}

func TestCutAtCommit(t *testing.T) {
	for name, commit := range commitWays {
		for _, tt := range []struct {
			name string
			when CommitCut
			rows int
		}{{"before", BeforeApplied, 0}, {"after", AfterApplied, 1}} {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				c := start(t)
				pool := newTable(t, c, 1)
				conn, err := pool.Acquire(t.Context())
				require.NoError(t, err)
				_, err = conn.Exec(t.Context(), "BEGIN; INSERT INTO t VALUES (1, 0)")
				require.NoError(t, err)
				c.Faults.CutAtCommit(tt.when)
				err = commit(t.Context(), conn.Conn())
				require.Error(t, err)
				var told *pgconn.PgError
				require.False(t, errors.As(err, &told), "no answer: %v", err)
				conn.Release()
				require.Equal(t, tt.rows, countRows(t, pool), "only the next COMMIT is cut")
			})
		}
	}
}

func TestRefuseConnections(t *testing.T) {
	c := start(t)
	for code, message := range map[string]string{
		"08006": "unable to accept connection, access denied",
		"28000": "unable to accept connection, access denied",
		"53300": "Unable to accept connection, too many open connections.",
		"53400": "Unable to accept connection, rate exceeded.",
	} {
		c.Faults.RefuseConnections(code)
		_, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
		requireRefusal(t, err, code, message)
		requireReason(t, c, "fault: RefuseConnections")
	}
	c.Faults.RefuseConnections("")
	require.NoError(t, newPool(t, c).Ping(t.Context()))
	require.Panics(t, func() { c.Faults.RefuseConnections("12345") })
}

func TestSetWaking(t *testing.T) {
	c := start(t)
	c.Faults.SetWaking(time.Hour)
	_, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
	requireRefusal(t, err, "08006", "unable to accept connection, waking up cluster, please retry later")

	c.Faults.SetWaking(200 * time.Millisecond)
	pool := newPool(t, c)
	require.NoError(t, occ.RunTx(t.Context(), pool, func(pgx.Tx) error { return nil }), "RunTx waits until it is awake")
}

func TestSetClockOffset(t *testing.T) {
	c := start(t)
	c.Faults.SetClockOffset(time.Hour)
	_, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
	refusal := requireRefusal(t, err, "08006", "unable to accept connection, access denied")
	require.Contains(t, refusal.Hint, "Signature expired: ")
	c.Faults.SetClockOffset(0)
	require.NoError(t, newPool(t, c).Ping(t.Context()))
}

func TestPauseBlocksUntilResume(t *testing.T) {
	c := start(t)
	pool := newPool(t, c)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	c.Faults.Pause()
	c.Faults.Pause() // has no effect
	done := make(chan error, 2)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 1")
		done <- err
	}()
	go func() {
		other, err := dsql.Connect(context.Background(), c.Endpoint(), "", c.Options()...)
		if err == nil {
			err = other.Close(context.Background())
		}
		done <- err
	}()
	select {
	case err := <-done:
		require.Fail(t, "it was answered", "%v", err)
	case <-time.After(100 * time.Millisecond):
	}
	c.Faults.Resume()
	c.Faults.Resume()
	require.NoError(t, <-done)
	require.NoError(t, <-done)
}

func TestCloseEndsAPause(t *testing.T) {
	c := start(t)
	require.NoError(t, newPool(t, c).Ping(t.Context()))
	c.Faults.Pause()
	c.Close()
}

func TestLatencyIsAddedToEachRoundTrip(t *testing.T) {
	c := start(t)
	conn, err := newPool(t, c).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	c.Faults.SetLatency(50 * time.Millisecond)
	start := time.Now()
	for range 3 {
		require.NoError(t, conn.Ping(t.Context()))
	}
	require.GreaterOrEqual(t, time.Since(start), 150*time.Millisecond)
	c.Faults.SetLatency(0)
}
