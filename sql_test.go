package dsql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/occ"
)

func openDB(t *testing.T, opts ...dsql.Option) *sql.DB {
	t.Helper()
	db, err := dsql.OpenDB(t.Context(), host, "", opts...)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestOpenDBSendsWhatAPoolSends(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	db := openDB(t, harness.With(opts, dsql.WithUser("app"), dsql.WithRuntimeParam("search_path", "app"))...)
	require.Zero(t, s.Accepted(), "OpenDB does not connect")
	db.SetMaxIdleConns(0)
	require.NoError(t, db.PingContext(t.Context()))
	require.NoError(t, db.PingContext(t.Context()))
	require.Len(t, s.Conns(), 2)
	for _, c := range s.Conns() {
		require.True(t, c.Direct)
		require.Equal(t, host, c.TLS.ServerName)
		require.Equal(t, map[string]string{"user": "app", "database": "postgres", "application_name": dsql.ApplicationName, "search_path": "app"}, c.Parameters)
		signedHost, params := parseToken(t, c.Password)
		require.Equal(t, host, signedHost)
		require.Equal(t, "DbConnect", params.Get("Action"))
	}
}

func TestOpenDBKeepsTheSeal(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	db := openDB(t, harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			c.TLSConfig.InsecureSkipVerify = true
			return nil
		}
		return nil
	}))...)
	require.ErrorContains(t, db.PingContext(t.Context()), "InsecureSkipVerify")
	require.Zero(t, s.Accepted())
	_, err := dsql.OpenDB(t.Context(), "https://"+host, "", opts...)
	require.ErrorContains(t, err, "use the host name alone")
}

// A statement that the server has carried out, and whose connection was then cut,
// is not run again. pgx's own connector runs the first of these twice.
func TestStatementThatWasCutRunsOnce(t *testing.T) {
	ways := map[string]func(context.Context, *sql.DB) error{
		"Exec without arguments": func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "update t set n = n + 1")
			return err
		},
		"Exec with arguments": func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "update t set n = n + $1", 1)
			return err
		},
		"Query without arguments": func(ctx context.Context, db *sql.DB) error {
			return db.QueryRowContext(ctx, "update t set n = n + 1 returning n").Scan(new(int64))
		},
		"prepared": func(ctx context.Context, db *sql.DB) error {
			stmt, err := db.PrepareContext(ctx, "update t set n = n + 1")
			if err != nil {
				return err
			}
			defer stmt.Close()
			_, err = stmt.ExecContext(ctx)
			return err
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			answers := &fakepg.SQL{Answer: func(st fakepg.Statement) fakepg.Reply {
				return fakepg.Reply{Cut: st.Step == fakepg.Execute && st.SQL != "-- ping"}
			}}
			_, opts := harness.Start(t, fakepg.Hooks{Session: answers.Session})
			db := openDB(t, opts...)
			require.NoError(t, db.PingContext(t.Context()))
			err := way(t.Context(), db)
			require.Error(t, err)
			require.NotErrorIs(t, err, driver.ErrBadConn)
			require.Equal(t, 1, answers.Count("update"))
		})
	}
}

func TestDeadIdleConnectionIsReplacedBeforeAnythingIsSent(t *testing.T) {
	c := startCluster(t)
	var conns []net.Conn
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), "", append(c.Options(), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		dial := p.ConnConfig.DialFunc
		p.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			conns = append(conns, conn)
			return conn, err
		}
		return nil
	}))...)
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	require.NoError(t, db.PingContext(t.Context()))

	// A ping that fails closes the connection, as does one idle for a second.
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Raw(func(c any) error {
		return c.(interface{ Conn() *pgx.Conn }).Conn().Close(context.Background())
	}))
	require.NoError(t, conn.Close())
	var one int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT 1").Scan(&one))
	require.Len(t, conns, 2)
}

func TestConnectionsEndBetweenTwoUsesAndNotInATransaction(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{Session: (&fakepg.SQL{}).Session})
	db := openDB(t, harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConnLifetime, p.MaxConnLifetimeJitter = time.Nanosecond, 0
		return nil
	}))...)
	db.SetMaxOpenConns(1)
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for range 3 {
		_, err = tx.ExecContext(t.Context(), "update t set n = 1")
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
	require.Len(t, s.Conns(), 1)
	require.NoError(t, db.PingContext(t.Context()))
	require.Len(t, s.Conns(), 2)
}

func TestIsolationLevelsOfDatabaseSQL(t *testing.T) {
	var begins atomic.Int64
	answers := &fakepg.SQL{Answer: func(st fakepg.Statement) fakepg.Reply {
		if len(st.SQL) > 4 && st.SQL[:5] == "begin" {
			begins.Add(1)
		}
		return fakepg.Reply{}
	}}
	_, opts := harness.Start(t, fakepg.Hooks{Session: answers.Session})
	db := openDB(t, opts...)
	for _, o := range []*sql.TxOptions{nil, {}, {Isolation: sql.LevelRepeatableRead}, {ReadOnly: true}} {
		tx, err := db.BeginTx(t.Context(), o)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback())
	}
	require.EqualValues(t, 4, begins.Load())
	for _, level := range []sql.IsolationLevel{sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelWriteCommitted, sql.LevelSnapshot, sql.LevelSerializable, sql.LevelLinearizable} {
		_, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
		require.ErrorContains(t, err, "dsql: DSQL does not have the isolation level "+level.String())
	}
	require.EqualValues(t, 4, begins.Load(), "nothing was sent")
}

func TestDriverInterfacesAreAllThere(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{Session: (&fakepg.SQL{}).Session})
	db := openDB(t, opts...)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(c any) error {
		for _, want := range []any{
			new(driver.Pinger), new(driver.ExecerContext), new(driver.QueryerContext), new(driver.ConnPrepareContext),
			new(driver.ConnBeginTx), new(driver.SessionResetter), new(driver.NamedValueChecker),
		} {
			require.Implements(t, want, c)
			require.Implements(t, want, new(stdlib.Conn))
		}
		require.NotNil(t, c.(interface{ Conn() *pgx.Conn }).Conn())
		return nil
	}))
}

// tracing is a driver.Connector around another, as tracing libraries have.
type tracing struct {
	driver.Connector
	connects *atomic.Int64
}

func (c tracing) Connect(ctx context.Context) (driver.Conn, error) {
	c.connects.Add(1)
	return c.Connector.Connect(ctx)
}

func TestConnectorCanBeWrapped(t *testing.T) {
	c := startCluster(t)
	cfg := dsql.Config{Endpoint: c.Endpoint()}
	for _, opt := range c.Options() {
		require.NoError(t, opt(&cfg))
	}
	connector, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, stdlib.GetDefaultDriver(), connector.Driver())

	before := runtime.NumGoroutine()
	var connects atomic.Int64
	db := sql.OpenDB(tracing{connector, &connects})
	_, err = db.ExecContext(t.Context(), "CREATE TABLE t (n int)")
	require.NoError(t, err)
	err = occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES ($1)", 1)
		return err
	})
	require.NoError(t, err)
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT n FROM t").Scan(&n))
	require.Equal(t, 1, n)
	require.Positive(t, connects.Load())
	require.NoError(t, db.Close())
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, 30*time.Second, 10*time.Millisecond)
}

func TestRefusedConnectionOfDatabaseSQLIsExplained(t *testing.T) {
	c := startCluster(t)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), "", append(c.Options(), dsql.WithUser("nobody"))...)
	require.NoError(t, err)
	defer db.Close()
	err = db.PingContext(t.Context())
	require.True(t, dsql.IsAccessDenied(err))
	require.ErrorContains(t, err, "AWS IAM GRANT nobody TO")
	require.False(t, errors.Is(err, driver.ErrBadConn))
}

// What every tool on database/sql gets from db.BeginTx: sqlx, bun, ent, GORM.
func TestCommitOfOpenDBReportsItsOutcome(t *testing.T) {
	for name, test := range map[string]struct {
		reply   fakepg.Reply
		unknown bool
		want    string
	}{
		"cut":                  {fakepg.Reply{Cut: true}, true, "look up whether the transaction is there"},
		"XX000":                {fakepg.Reply{Err: &pgconn.PgError{Code: "XX000", Message: "server unavailable"}}, true, "server unavailable"},
		"committed, then cut":  {fakepg.Reply{CutAfter: true}, false, ""},
		"conflict, then cut":   {fakepg.Reply{CutAfter: true, Err: fakepg.Conflict()}, false, "OC000"},
		"conflict":             {fakepg.Reply{Err: fakepg.Conflict()}, false, "OC000"},
		"constraint violation": {fakepg.Reply{Err: &pgconn.PgError{Code: "23505", Message: "duplicate"}}, false, "duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			answers := &fakepg.SQL{Answer: func(st fakepg.Statement) fakepg.Reply {
				if st.Step == fakepg.Execute && st.SQL == "commit" {
					return test.reply
				}
				return fakepg.Reply{}
			}}
			_, opts := harness.Start(t, fakepg.Hooks{Session: answers.Session})
			db := openDB(t, opts...)
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), "update t set n = 1")
			require.NoError(t, err)
			err = tx.Commit()
			require.NotErrorIs(t, err, driver.ErrBadConn)
			require.Equal(t, test.unknown, errors.As(err, new(*occ.CommitUnknownError)))
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
			require.Equal(t, 1, answers.Count("commit"))
			require.NoError(t, db.PingContext(t.Context()))
		})
	}
}

func TestTransactionOfOpenDBThatWasEndedBySQLIsNotRunAgain(t *testing.T) {
	for name, statement := range map[string]string{"commit": "commit", "and begun": "commit; begin"} {
		for way, run := range map[string]func(context.Context, *sql.DB, func(*sql.Tx) error) error{
			"RunSQLTx": func(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error) error {
				return occ.RunSQLTx(ctx, db, fn)
			},
			"RunTxOf": func(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error) error {
				return occ.RunTxOf(ctx, func(ctx context.Context) (*sql.Tx, error) { return db.BeginTx(ctx, nil) }, fn)
			},
		} {
			t.Run(way+"/"+name, func(t *testing.T) {
				answers := &fakepg.SQL{}
				_, opts := harness.Start(t, fakepg.Hooks{Session: answers.Session})
				db := openDB(t, opts...)
				calls := 0
				err := run(t.Context(), db, func(tx *sql.Tx) error {
					calls++
					_, err := tx.ExecContext(t.Context(), statement)
					require.NoError(t, err)
					return fakepg.Conflict()
				})
				require.ErrorContains(t, err, "the server has committed it")
				require.Equal(t, 1, calls)
				require.NoError(t, db.PingContext(t.Context()))
			})
		}
	}
}

func TestStalePreparedStatementHeals(t *testing.T) {
	for _, code := range []string{"0A000", "26000"} {
		fresh := false // the server has been asked to prepare the statement again
		parses := 0
		answers := &fakepg.SQL{Answer: func(st fakepg.Statement) fakepg.Reply {
			switch {
			case st.Step == fakepg.Parse && st.SQL == "select n from t where id = $1":
				parses++
				fresh = parses > 1
			case st.Step == fakepg.Bind && !fresh:
				return fakepg.Reply{Err: &pgconn.PgError{Code: code, Message: "cached plan must not change result type"}}
			case st.Step == fakepg.Execute && st.SQL == "select n from t where id = $1":
				return fakepg.Reply{Rows: [][]int64{{7}}}
			}
			return fakepg.Reply{}
		}}
		_, opts := harness.Start(t, fakepg.Hooks{Session: answers.Session})
		db := openDB(t, opts...)
		db.SetMaxOpenConns(1)
		stmt, err := db.PrepareContext(t.Context(), "select n from t where id = $1")
		require.NoError(t, err)
		calls := 0
		var n int
		require.NoError(t, occ.Retry(t.Context(), func(ctx context.Context) error {
			calls++
			return stmt.QueryRowContext(ctx, 1).Scan(&n)
		}))
		require.Equal(t, 2, calls)
		require.Equal(t, 7, n)
		require.Equal(t, 1, answers.Sessions(), "the connection is kept")
		require.NoError(t, db.QueryRowContext(t.Context(), "select n from t where id = $1", 1).Scan(&n), "the same text elsewhere")
		require.NoError(t, stmt.Close())
	}
}

func TestRawConnectionIsPgxs(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{Session: (&fakepg.SQL{}).Session})
	conn, err := openDB(t, opts...).Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(c any) error {
		require.IsType(t, &stdlib.Conn{}, c.(interface{ Raw() driver.Conn }).Raw())
		return nil
	}))
}
