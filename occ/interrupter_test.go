package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// Whatever way a statement takes to the server with another context, the run's ends it.
func TestAnotherContextDoesNotOutlastTheRuns(t *testing.T) {
	t.Parallel()
	ways := map[string]func(context.Context, pgx.Tx) error{
		"second Exec": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into t values (1)")
			return errors.Join(err, update(ctx, tx))
		},
	}
	for _, statements := range []map[string]func(context.Context, pgx.Tx) error{firstStatements, aloneStatements} {
		for name, statement := range statements {
			if name != "nothing" && name != "empty batch" { // which send none
				ways[name] = statement
			}
		}
	}
	var runs sync.WaitGroup // not subtests, of which few run at the same time
	run := func(name string, db func(*scripted) occ.TxBeginner, contextOf func(context.Context) context.Context, statement func(context.Context, pgx.Tx) error) {
		ctx, end := context.WithCancel(t.Context())
		release := make(chan struct{})
		s := startSQL(t, func(st fakepg.Statement) fakepg.Reply {
			verb, _, _ := strings.Cut(st.SQL, " ")
			if slices.Contains([]string{"update", "select", "copy"}, verb) {
				end()
				<-release
			}
			return fakepg.Reply{}
		})
		t.Cleanup(func() { close(release) })
		begin := db(s)
		runs.Go(func() {
			err := occ.RunTx(ctx, begin, func(tx pgx.Tx) error { return statement(contextOf(ctx), tx) })
			assert.ErrorIs(t, err, context.Canceled, name)
			assert.Zero(t, s.Count(commit), name)
		})
	}
	pool := func(s *scripted) occ.TxBeginner { return s.pool }
	another := func(context.Context) context.Context { return context.Background() }
	for name, statement := range ways {
		run(name, pool, another, statement)
		run(name+", of another type", func(s *scripted) occ.TxBeginner { return detached{s.pool} }, func(ctx context.Context) context.Context { return ctx }, statement)
		run(name+", derived", pool, func(ctx context.Context) context.Context { return context.WithValue(ctx, t, name) }, statement)
	}
	var conn *pgx.Conn
	run("the caller's connection", func(s *scripted) occ.TxBeginner { conn = s.connect(t); return conn }, another, func(ctx context.Context, _ pgx.Tx) error {
		_, err := conn.Exec(ctx, updateN, 1)
		return err
	})
	runs.Wait()
}

// detached is a database whose transactions ignore the context of Exec.
type detached struct{ occ.TxBeginner }

func (d detached) BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error) {
	tx, err := d.TxBeginner.BeginTx(ctx, o)
	return detachedTx{tx}, err
}

type detachedTx struct{ pgx.Tx }

func (tx detachedTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return tx.Tx.Exec(context.WithoutCancel(ctx), sql, args...)
}

// The bounds of a callback that panicked are not those of the next user of its connection.
func TestBoundsEndWithAPanic(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(ctx context.Context, s *scripted, opts ...occ.RetryOption) error{
		"RunTx": func(ctx context.Context, s *scripted, opts ...occ.RetryOption) error {
			return occ.RunTx(ctx, s.pool, func(tx pgx.Tx) error {
				require.NoError(t, update(context.Background(), tx))
				panic("p")
			}, opts...)
		},
		"RunSQLTx": func(ctx context.Context, s *scripted, opts ...occ.RetryOption) error {
			db := stdlib.OpenDBFromPool(s.pool)
			defer db.Close()
			return occ.RunSQLTx(ctx, db, func(*sql.Tx) error { panic("p") }, opts...)
		},
	} {
		for bound, opts := range map[string][]occ.RetryOption{"context": nil, "WithMaxElapsed": {occ.WithMaxElapsed(700 * time.Millisecond)}} {
			t.Run(name+"/"+bound, func(t *testing.T) {
				t.Parallel()
				s := startSQL(t)
				require.NoError(t, s.pool.Ping(t.Context())) // connects
				ctx, end := context.WithCancel(t.Context())
				require.Panics(t, func() { _ = run(ctx, s, opts...) })
				end()
				time.Sleep(800 * time.Millisecond) // for a bound that has not ended to interrupt the connection
				_, err := s.pool.Exec(t.Context(), updateN, 1)
				require.NoError(t, err)
				s.kept(t)
			})
		}
	}
}

// A transaction of another type gives its connection back when it is rolled back.
func TestBoundsEndWithARollback(t *testing.T) {
	t.Parallel()
	s := startSQL(t)
	ctx, end := context.WithCancel(t.Context())
	_ = occ.RunTx(ctx, struct{ occ.TxBeginner }{s.pool}, func(tx pgx.Tx) error {
		require.NoError(t, update(t.Context(), tx))
		require.NoError(t, tx.Rollback(t.Context()))
		end()
		time.Sleep(800 * time.Millisecond) // for a bound that has not ended to interrupt the connection
		_, err := s.pool.Exec(t.Context(), updateN, 1)
		require.NoError(t, err)
		return errors.New("rolled back")
	})
	s.kept(t)
}
