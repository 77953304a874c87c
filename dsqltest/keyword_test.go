package dsqltest

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func TestControlStatementsAreToldByTheirWords(t *testing.T) {
	for sql, want := range map[string]control{
		"BEGIN": begin, "begin;": begin, "start transaction read only": begin, "  /* a /* b */ c */ -- d\n Begin": begin,
		"COMMIT": commit, "end": commit, "commit and no chain": commit, "COMMIT ; -- done": commit,
		"ROLLBACK": rollback, "abort;": rollback, "rollback transaction": rollback, "rollback work ;": rollback,
		"ROLLBACK TO SAVEPOINT a": none, "rollback transaction to a": none,
		"": none, "SELECT 'commit'": none, "committed": none, "commit; SELECT 1": none, "BEGIN; SELECT 1": none, "/* unended": none, "COMMITTEE": none,
	} {
		require.Equal(t, want, controlOf(sql), sql)
	}
}

func TestConflictsOfPostgreSQLAreToldInDSQLsWords(t *testing.T) {
	c := Start(t)
	pool := withTable(t, c, 4)
	_, err := pool.Exec(t.Context(), "INSERT INTO t VALUES (1, 0), (2, 0)")
	require.NoError(t, err)
	update := func(tx pgx.Tx, id int) error {
		_, err := tx.Exec(t.Context(), "UPDATE t SET n = n + 1 WHERE id = $1", id)
		return err
	}
	begin := func() pgx.Tx {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "SELECT FROM t") // takes the snapshot
		require.NoError(t, err)
		return tx
	}
	t.Run("a row that was changed since", func(t *testing.T) {
		first, second := begin(), begin()
		require.NoError(t, update(first, 1))
		require.NoError(t, first.Commit(t.Context()))
		err := update(second, 1)
		require.Equal(t, dsql.DataConflict, dsql.ConflictKind(err))
		require.NoError(t, second.Rollback(t.Context()))
	})
	t.Run("a deadlock", func(t *testing.T) {
		first, second := begin(), begin()
		require.NoError(t, update(first, 1))
		require.NoError(t, update(second, 2))
		errs := make(chan error, 1)
		go func() { errs <- update(first, 2) }()
		err := errors.Join(update(second, 1), <-errs)
		require.Equal(t, dsql.DataConflict, dsql.ConflictKind(err))
		require.NoError(t, first.Rollback(t.Context()))
		require.NoError(t, second.Rollback(t.Context()))
	})
}

func TestTransactionOfTheExtendedProtocol(t *testing.T) {
	c := Start(t)
	pool := withTable(t, c, 1)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	exec := func(sql string) error {
		_, err := conn.Conn().PgConn().ExecParams(t.Context(), sql, nil, nil, nil, nil).Close()
		return err
	}
	for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (1, 0)", "ROLLBACK", "BEGIN", "INSERT INTO t VALUES (2, 0)", "COMMIT"} {
		require.NoError(t, exec(sql), sql)
	}
	require.NoError(t, exec("COMMIT"), "outside a transaction it is a warning")
	require.Equal(t, Stats{Connects: 1, Begins: 2, Commits: 1, Rollbacks: 1}, c.Stats())
}

func TestCommitBehindAFailureInAPipelineIsNotCarriedOut(t *testing.T) {
	c := Start(t)
	pool := withTable(t, c, 1)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	pipeline := conn.Conn().PgConn().StartPipeline(t.Context())
	pipeline.SendQueryParams("INSERT INTO t VALUES (1, 0)", nil, nil, nil, nil)
	pipeline.SendQueryParams("SELECT 1/0", nil, nil, nil, nil)
	pipeline.SendQueryParams("COMMIT", nil, nil, nil, nil)
	require.NoError(t, pipeline.Sync())
	var told *pgconn.PgError
	require.ErrorAs(t, pipeline.Close(), &told)
	require.Equal(t, "22012", told.Code)
	require.Equal(t, byte('E'), conn.Conn().PgConn().TxStatus(), "it is still to be rolled back")
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)

	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	pipeline = conn.Conn().PgConn().StartPipeline(t.Context())
	pipeline.SendQueryParams("INSERT INTO t VALUES (1, 0)", nil, nil, nil, nil)
	pipeline.SendQueryParams("COMMIT", nil, nil, nil, nil)
	pipeline.SendQueryParams("SELECT 2", nil, nil, nil, nil)
	require.NoError(t, pipeline.Sync())
	require.NoError(t, pipeline.Close())
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 1, n)
}
