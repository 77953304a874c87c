package proxy

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestExtendedProtocolTransaction(t *testing.T) {
	c := start(t)
	pool := newTable(t, c, 1)
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

func TestCommitAfterAnErrorInAPipelineIsNotExecuted(t *testing.T) {
	c := start(t)
	pool := newTable(t, c, 1)
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
	require.Equal(t, byte('E'), conn.Conn().PgConn().TxStatus(), "ROLLBACK is still required")
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
