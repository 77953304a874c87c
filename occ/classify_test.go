package occ_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// refusing is a pool on a server that refuses the first n connections.
func refusingBegin(t *testing.T, n int, hook func(h *fakepg.Hooks, refuse func() bool)) (*pgxpool.Pool, *fakepg.SQL) {
	t.Helper()
	var asked atomic.Int64
	sql := &fakepg.SQL{}
	hooks := fakepg.Hooks{Session: sql.Session}
	hook(&hooks, func() bool { return asked.Add(1) <= int64(n) })
	server := fakepg.Start(t, hooks)
	pool, err := pgxpool.New(t.Context(), fmt.Sprintf("postgres://u:p@%s/db?sslmode=disable&pool_max_conns=1", server.Addr))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, sql
}

func refusal(code, message, hint string) func(*fakepg.Hooks, func() bool) {
	return func(h *fakepg.Hooks, refuse func() bool) {
		h.Password = func(*fakepg.Conn) error {
			if refuse() {
				return &pgconn.PgError{Code: code, Message: message, Hint: hint}
			}
			return nil
		}
	}
}

func TestFailureToBeginIsRetried(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		hook func(*fakepg.Hooks, func() bool)
	}{
		{"too many connections", refusal("53300", "Unable to accept connection, too many open connections.", "")},
		{"too many a second", refusal("53400", "Unable to accept connection, rate exceeded.", "")},
		{"waking up", refusal("XX000", "unable to accept connection, waking up cluster, please retry later", "")},
		{"starting up", refusal("57P03", "the database system is starting up", "")},
		{"server unavailable", refusal("XX000", "server unavailable", "")},
		{"signature expired", refusal("08006", deniedMessage, "Signature expired: 20261001T000000Z is now earlier than")},
		{"reset", func(h *fakepg.Hooks, refuse func() bool) {
			h.Accept = func(c net.Conn) error {
				if refuse() {
					_ = c.(*net.TCPConn).SetLinger(0)
					return errors.New("reset")
				}
				return nil
			}
		}},
		{"closed", func(h *fakepg.Hooks, refuse func() bool) {
			h.Startup = func(*fakepg.Conn) error {
				if refuse() {
					return errors.New("close")
				}
				return nil
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool, sql := refusingBegin(t, 1, test.hook)
			var seen events
			calls := 0
			err := occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error { calls++; return nil }, seen.option())
			require.NoError(t, err)
			require.Equal(t, 1, calls)
			require.Len(t, seen.all, 1)
			require.Equal(t, 1, sql.Count(commit))
		})
	}
}

func TestRefusedDialIsRetried(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	config := s.pool.Config()
	var dials atomic.Int64
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		if dials.Add(1) == 1 {
			// A port that was free a moment ago refuses.
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			address = l.Addr().String()
			l.Close()
		}
		return d.DialContext(ctx, network, address)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, occ.RunTx(t.Context(), pool, func(pgx.Tx) error { return nil }))
	require.EqualValues(t, 2, dials.Load())
}

func TestUnknownHostIsFinal(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	config := s.pool.Config()
	dials := 0
	config.ConnConfig.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		dials++
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "host", IsNotFound: true}}
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	err = occ.RunTx(t.Context(), pool, func(pgx.Tx) error { return nil })
	require.ErrorContains(t, err, "no such host")
	require.Equal(t, 1, dials)
}

func TestRefusedRoleIsFinal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, code, message, hint string
		attempts                  int
	}{
		{"by IAM", "08006", deniedMessage, "User: arn:aws:iam::111122223333:user/n is not authorized to access this resource", 1},
		{"no grant", "28000", deniedMessage, "", 1},
		{"wrong action", "08006", deniedMessage, "Wrong user to action mapping. user: admin, action: DbConnect", 1},
		{"signature expired again", "08006", deniedMessage, "Signature expired: ", 2},
		{"unknown database", "3D000", "database does not exist", "", 1},
		{"unsupported parameter", "0A000", `setting configuration parameter "statement_timeout" not supported`, "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			pool, sql := refusingBegin(t, 100, func(h *fakepg.Hooks, _ func() bool) {
				h.Password = func(*fakepg.Conn) error {
					asked.Add(1)
					return &pgconn.PgError{Code: test.code, Message: test.message, Hint: test.hint}
				}
			})
			err := occ.RunTx(t.Context(), pool, func(pgx.Tx) error { t.Error("it ran"); return nil })
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg)
			require.Equal(t, test.message, pg.Message)
			require.EqualValues(t, test.attempts, asked.Load())
			require.Zero(t, sql.Sessions())
		})
	}
}

// A connection that was cut while it was idle fails at BEGIN, where nothing has run at the server.
func TestDeadIdleConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	for name, fn := range map[string]func(pgx.Tx) error{
		"without statements": func(pgx.Tx) error { return nil },
		"with one":           func(tx pgx.Tx) error { return update(t.Context(), tx) },
		"swallowed":          func(tx pgx.Tx) error { _ = update(t.Context(), tx); return nil },
	} {
		s := startSQL(t, first(1, fakepg.Execute, "begin", fakepg.Reply{Cut: true}))
		require.NoError(t, occ.RunTx(t.Context(), s.pool, fn), name)
		require.Equal(t, 2, s.Sessions(), name)
		require.Equal(t, 1, s.Count(commit), name)
	}
}

func TestClosedPoolIsFinal(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	s.pool.Close()
	err := occ.RunTx(t.Context(), s.pool, func(pgx.Tx) error { return nil })
	require.EqualError(t, err, "occ: begin: closed pool")
}

func TestContextEndsBegin(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	held, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()
	ctx := newEndable(t.Context())
	done := make(chan error)
	go func() { done <- occ.RunTx(ctx, s.pool, func(pgx.Tx) error { return nil }) }()
	ctx.end(context.Canceled)
	require.ErrorIs(t, <-done, context.Canceled)
}

// The recipe of docs/concurrency.md for finding code that flattens errors.
func TestConflictComesOutOfSave(t *testing.T) {
	t.Parallel()
	save := func(err error) error { return fmt.Errorf("save: %w", err) }
	conflict := &pgconn.PgError{Code: "40001", Message: "change conflicts with another transaction (OC000)"}
	if !occ.IsConflict(save(conflict)) {
		t.Error("save flattens its error: wrap it with %w")
	}
}
