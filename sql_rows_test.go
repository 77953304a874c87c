package dsql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/sqlstate"
	"github.com/go-dsql/dsql/occ"
)

// A statement while rows are open is the program's mistake, and no lost connection.
func TestStatementWhileRowsAreOpen(t *testing.T) {
	const want = "dsql: rows are open on this connection or transaction: read them to the end or close them before the next statement"
	c := startCluster(t)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	var pid, again int
	require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
	prepared, err := conn.PrepareContext(t.Context(), "SELECT 1")
	require.NoError(t, err)
	defer prepared.Close()
	closed := func(r interface{ Close() error }, err error) error {
		if err != nil {
			return err
		}
		return r.Close()
	}
	for name, during := range map[string]func() error{
		"Exec":           func() error { _, err := conn.ExecContext(t.Context(), "SELECT 1"); return err },
		"Query":          func() error { return closed(conn.QueryContext(t.Context(), "SELECT $1::int", 1)) },
		"Prepare":        func() error { return closed(conn.PrepareContext(t.Context(), "SELECT 2")) },
		"Prepared.Exec":  func() error { _, err := prepared.ExecContext(t.Context()); return err },
		"Prepared.Query": func() error { return closed(prepared.QueryContext(t.Context())) },
		"Begin": func() error {
			tx, err := conn.BeginTx(t.Context(), nil)
			if err != nil {
				return err
			}
			return tx.Rollback()
		},
		"Ping": func() error { return conn.PingContext(t.Context()) },
	} {
		rows, err := conn.QueryContext(t.Context(), "SELECT generate_series(1, 3)")
		require.NoError(t, err)
		defer rows.Close() // conn.Close would wait for it if the test fails
		n := 0
		for rows.Next() {
			err := during()
			require.EqualError(t, err, want, name)
			require.NotErrorIs(t, err, driver.ErrBadConn)
			require.NotErrorIs(t, err, sqlstate.ErrMaybeApplied)
			n++
			if n == 2 {
				break
			}
		}
		require.NoError(t, rows.Close())
		require.NoError(t, during(), name)
		require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&again), "after %s", name)
		require.Equal(t, pid, again, "%s: the connection is kept", name)
	}
}

// A transaction continues after the mistake, and RunSQLTx does not run it again.
func TestTransactionGoesOnAfterAStatementWhileRowsWereOpen(t *testing.T) {
	c := startCluster(t)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = db.Exec("CREATE TABLE t (n int)")
	require.NoError(t, err)
	runs := 0
	require.NoError(t, occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error {
		runs++
		rows, err := tx.Query("SELECT generate_series(1, 3)")
		if err != nil {
			return err
		}
		for rows.Next() {
			_, err := tx.Exec("INSERT INTO t VALUES (1)")
			require.ErrorContains(t, err, "rows are open")
		}
		if err := rows.Err(); err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO t VALUES (2)")
		return err
	}))
	require.Equal(t, 1, runs)

	err = occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error {
		runs++
		rows, err := tx.Query("SELECT generate_series(1, 3)")
		require.NoError(t, err)
		defer rows.Close()
		require.True(t, rows.Next())
		_, err = tx.Exec("INSERT INTO t VALUES (3)")
		return err
	})
	require.ErrorContains(t, err, "rows are open")
	require.Equal(t, 2, runs)
	var n, sum int
	require.NoError(t, db.QueryRow("SELECT count(*), sum(n) FROM t").Scan(&n, &sum))
	require.Equal(t, []int{1, 2}, []int{n, sum})
}

// Rows that database/sql closes itself, at the end of a context or of a transaction, are no
// mistake.
func TestRowsThatDatabaseSQLCloses(t *testing.T) {
	c := startCluster(t)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		tx, err := db.Begin()
		require.NoError(t, err)
		rows, err := tx.Query("SELECT generate_series(1, 1000)")
		require.NoError(t, err)
		require.True(t, rows.Next())
		require.NoError(t, end(tx))
		require.NoError(t, db.Ping())
		rows.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	rows, err := db.QueryContext(ctx, "SELECT generate_series(1, 1000)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	cancel()
	var n int
	require.NoError(t, db.QueryRow("SELECT 1").Scan(&n))
	rows.Close()
}

// A connection that is given back with open rows is not used again.
func TestConnectionWithOpenRowsIsReplaced(t *testing.T) {
	c := startCluster(t)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	for range 2 { // then it is not pinged for a second
		_, err := db.ExecContext(t.Context(), "SELECT 1")
		require.NoError(t, err)
	}
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Raw(func(c any) error {
		_, err := c.(interface{ Conn() *pgx.Conn }).Conn().Query(t.Context(), "SELECT * FROM generate_series(1, 3)")
		return err
	}))
	require.NoError(t, conn.Close())
	for range 3 {
		_, err := db.ExecContext(t.Context(), "SELECT 1")
		require.NoError(t, err)
	}
}
