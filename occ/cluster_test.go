package occ_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/internal/postgres"
	"github.com/go-dsql/dsql/occ"
)

// newClusterPool is a pool of n connections on a local cluster, after statements.
func newClusterPool(t *testing.T, c *dsqltest.Cluster, n int, tune func(*pgxpool.Config), statements ...string) *pgxpool.Pool {
	t.Helper()
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), "", harness.With(c.Options(), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns = int32(n)
		tune(p)
		return nil
	}))...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, statement := range statements {
		_, err := pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	return pool
}

// A transaction whose statement is prepared, on a table that then gets a column.
func TestStalePlanHealsInEveryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			c := dsqltest.Start(t) // DDL of one mode would be a schema conflict in the others
			pool := newClusterPool(t, c, 3, func(p *pgxpool.Config) { p.ConnConfig.DefaultQueryExecMode = mode },
				"CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
			read := func(tx pgx.Tx) (columns int, err error) {
				for _, query := range []string{"SELECT * FROM t WHERE id = $1", "SELECT *, 1 FROM t WHERE id = $1"} {
					rows, err := tx.Query(t.Context(), query, 1)
					if err != nil {
						return 0, err
					}
					rows.Next()
					columns = len(rows.RawValues())
					rows.Close()
					if err := rows.Err(); err != nil {
						return 0, err
					}
				}
				return columns, nil
			}
			everyConnection(t, pool, func(conn *pgxpool.Conn) {
				columns, err := occ.RunTxValue(t.Context(), conn, read)
				require.NoError(t, err)
				require.Equal(t, 3, columns)
			})
			_, err := pool.Exec(t.Context(), "ALTER TABLE t ADD COLUMN m int")
			require.NoError(t, err)

			var seen events
			everyConnection(t, pool, func(conn *pgxpool.Conn) {
				columns, err := occ.RunTxValue(t.Context(), conn, read, seen.option())
				require.NoError(t, err)
				require.Equal(t, 4, columns)
			})
			stale := 0
			for _, event := range seen.all {
				require.Zero(t, event.Delay)
				if !occ.IsConflict(event.Err) {
					stale++
				}
			}
			if mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeCacheDescribe {
				require.NotZero(t, stale)
			} else {
				require.Zero(t, stale)
			}
		})
	}
}

// It heals where BEGIN travels with the stale statement, too.
func TestStalePlanBehindBeginHeals(t *testing.T) {
	t.Parallel()
	const query = "SELECT * FROM t WHERE id = $1"
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe} {
		for name, read := range map[string]func(tx pgx.Tx) (pgx.Rows, error){
			"Query": func(tx pgx.Tx) (pgx.Rows, error) { return tx.Query(t.Context(), query, 1) },
			"SendBatch": func(tx pgx.Tx) (pgx.Rows, error) {
				b := &pgx.Batch{}
				b.Queue(query, 1)
				results := tx.SendBatch(t.Context(), b)
				defer results.Close()
				rows, err := results.Query()
				if err == nil {
					rows.Next()
					rows.Close()
				}
				return rows, err
			},
		} {
			t.Run(fmt.Sprint(mode, "/", name), func(t *testing.T) {
				t.Parallel()
				c := dsqltest.Start(t)
				pool := newClusterPool(t, c, 1, func(p *pgxpool.Config) { p.ConnConfig.DefaultQueryExecMode = mode },
					"CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
				columns := func(opts ...occ.RetryOption) (n int) {
					require.NoError(t, occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
						rows, err := read(tx)
						if err != nil {
							return err
						}
						rows.Next()
						rows.Close()
						n = len(rows.FieldDescriptions())
						return rows.Err()
					}, opts...))
					return n
				}
				require.Equal(t, 2, columns())
				_, err := pool.Exec(t.Context(), "ALTER TABLE t ADD COLUMN m int")
				require.NoError(t, err)
				var seen events
				require.Equal(t, 3, columns(seen.option()))
				require.NotEmpty(t, seen.all)
				require.EqualValues(t, 1, pool.Stat().NewConnsCount())
			})
		}
	}
}

func everyConnection(t *testing.T, pool *pgxpool.Pool, f func(*pgxpool.Conn)) {
	t.Helper()
	var conns []*pgxpool.Conn
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		f(conn)
		conn.Release()
	}
}

func TestWorkersAddUpOnACluster(t *testing.T) {
	t.Parallel()
	pool := newClusterPool(t, dsqltest.Start(t), 20, func(*pgxpool.Config) {},
		"CREATE TABLE t (id int PRIMARY KEY, n bigint)", "INSERT INTO t VALUES (1, 0)")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				if err := occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error { return addOne(t.Context(), tx) },
					occ.WithTxOptions(repeatableRead)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), selectN, 1).Scan(&n))
	require.Equal(t, 1000, n)
}

// scratch is a database of the engine, reached as superuser.
func scratch(t *testing.T) *pgxpool.Pool {
	t.Helper()
	e, err := postgres.Start(t.Context())
	require.NoError(t, err)
	name := "scratch_" + strings.ToLower(rand.Text())
	require.NoError(t, e.CreateDatabase(t.Context(), name))
	config, err := pgxpool.ParseConfig("host=/ user=dsqltest sslmode=disable dbname=" + name)
	require.NoError(t, err)
	config.MaxConns = 1
	config.ConnConfig.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return e.Dial(ctx) }
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		pool.Close()
		require.NoError(t, e.DropDatabase(context.WithoutCancel(t.Context()), name))
	})
	return pool
}

// PostgreSQL's own COMMIT fails: a deferred trigger raises the conflict the first
// two times, counted by a sequence, which no rollback takes back.
func TestConflictAtPostgreSQLsCommit(t *testing.T) {
	t.Parallel()
	pool := scratch(t)
	_, err := pool.Exec(t.Context(), `
		CREATE TABLE t (n int);
		CREATE SEQUENCE commits;
		CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('commits') <= 2 THEN
				RAISE EXCEPTION 'change conflicts with another transaction (OC000)' USING ERRCODE = '40001';
			END IF;
			RETURN NULL;
		END $$;
		CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lose()`)
	require.NoError(t, err)
	var seen events
	err = occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (1)")
		return err
	}, quick(), seen.option())
	require.NoError(t, err)
	require.Len(t, seen.all, 2)
	require.Equal(t, occ.DataConflict, occ.ConflictKind(seen.all[1].Err))
	var rows int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&rows))
	require.Equal(t, 1, rows)
	require.EqualValues(t, 1, pool.Stat().NewConnsCount(), "the connection is kept")
}

func TestCanceledTransactionOnAClusterKeepsTheConnection(t *testing.T) {
	t.Parallel()
	pool := newClusterPool(t, dsqltest.Start(t), 1, func(*pgxpool.Config) {}, "CREATE TABLE t (n int)")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO t VALUES (1)")
		require.NoError(t, err)
		cancel()
		_, err = tx.Exec(ctx, "INSERT INTO t VALUES (2)")
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	var rows int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&rows))
	require.Zero(t, rows)
	require.EqualValues(t, 1, pool.Stat().NewConnsCount())
}

// severable is a connection that ends before its next write once it is told.
type severable struct {
	net.Conn
	severed *atomic.Bool
}

func (c severable) Write(b []byte) (int, error) {
	if c.severed.CompareAndSwap(true, false) {
		c.Close()
		return len(b), nil // the network took it
	}
	return c.Conn.Write(b)
}

// OpenDB does not have database/sql repeat a statement that was cut; RunSQLTx runs
// the whole transaction again.
func TestRunSQLTxOnOpenDBRetriesACutBeforeCommit(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	var severed atomic.Bool
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), "", harness.With(c.Options(), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
			return severable{conn, &severed}, nil
		}
		return nil
	}))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.Exec("CREATE TABLE t (n int)")
	require.NoError(t, err)

	calls := 0
	err = occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error {
		if calls++; calls == 1 {
			severed.Store(true)
		}
		_, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
		return err
	})
	require.NoError(t, err)
	require.Equal(t, 2, calls)
	var rows int
	require.NoError(t, db.QueryRow("SELECT count(*) FROM t").Scan(&rows))
	require.Equal(t, 1, rows)
}

// writes counts what a client sends at once.
type writes struct {
	net.Conn
	n *atomic.Int64
}

func (c writes) Write(b []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Write(b)
}

// PostgreSQL takes BEGIN and a statement in one message, and so does the cluster.
func TestBeginTravelsOnTheCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			pool := newClusterPool(t, dsqltest.Start(t), 1, func(p *pgxpool.Config) {
				p.ConnConfig.DefaultQueryExecMode = mode
				p.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
					return writes{conn, &sent}, nil
				}
			}, "CREATE TABLE t (id int PRIMARY KEY, n bigint)", "INSERT INTO t VALUES (1, 0), (2, 0)")
			for name, statement := range firstStatements {
				trips := func(run func(func(pgx.Tx) error) error) int64 {
					var before int64
					for range 2 {
						before = sent.Load()
						require.NoError(t, run(func(tx pgx.Tx) error { return statement(ctx, tx) }), name)
					}
					return sent.Load() - before
				}
				with := trips(func(fn func(pgx.Tx) error) error { return occ.RunTx(ctx, pool, fn) })
				without := trips(func(fn func(pgx.Tx) error) error { return pgx.BeginFunc(ctx, pool, fn) })
				require.Equal(t, without-1, with, name)
			}
			// What fails before BEGIN is carried out fails in the transaction.
			for sql, code := range map[string]string{"selec 1": "42601", "SELECT * FROM missing": "42P01", "SELECT 1/0": "22012", "SELECT $1::int": ""} {
				err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, sql)
					_, second := tx.Exec(ctx, "UPDATE t SET n = 1 WHERE id = 1")
					if second == nil {
						t.Errorf("%s: the transaction has not failed", sql)
					}
					return err
				})
				var pgErr *pgconn.PgError
				require.ErrorAs(t, err, &pgErr, sql)
				if code != "" {
					require.Equal(t, code, pgErr.Code, sql)
				}
			}
			require.EqualValues(t, 1, pool.Stat().NewConnsCount())
		})
	}
}
