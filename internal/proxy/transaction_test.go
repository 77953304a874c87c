package proxy

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestTransactionAgeLimit(t *testing.T) {
	for _, late := range []string{"SELECT 1", "COMMIT"} {
		for _, mode := range modes {
			c := start(t)
			conn := connect(t, c)
			apply(t, conn, "BEGIN", "SELECT 1")
			c.transactionAge = time.Nanosecond
			_, err := conn.Exec(t.Context(), late, mode)
			var told *pgconn.PgError
			require.ErrorAs(t, err, &told, late)
			require.Equal(t, "54000", told.Code)
			require.Equal(t, "transaction age limit of 0s exceeded", told.Message)
			require.Equal(t, "Current transaction age 0s exceeds 0s", told.Detail)
			if late != "COMMIT" {
				require.Equal(t, byte('E'), conn.PgConn().TxStatus())
				apply(t, conn, "ROLLBACK")
			}
			require.Equal(t, byte('I'), conn.PgConn().TxStatus())
			apply(t, conn, "SELECT 1")
		}
	}
	require.Equal(t, 300*time.Second, start(t).transactionAge)
}

func TestSizeLimit(t *testing.T) {
	conn := connect(t, start(t))
	apply(t, conn, "CREATE TABLE t (v text)", "BEGIN", "INSERT INTO t SELECT repeat('x', 1000000) FROM generate_series(1, 10)")
	_, err := conn.Exec(t.Context(), "INSERT INTO t SELECT repeat('x', 1000000) FROM generate_series(1, 2)")
	var told *pgconn.PgError
	require.ErrorAs(t, err, &told)
	require.Equal(t, "54000 transaction size limit 10mb exceeded; Current transaction size 11mb > 10mb", told.Code+" "+told.Message+"; "+told.Detail)
	require.Empty(t, told.Where, "the cluster's own functions are internal")
}

func TestRowLimitIsPerTransaction(t *testing.T) {
	conn := connect(t, start(t))
	apply(t, conn, "CREATE TABLE t (id int)")
	for range 2 {
		apply(t, conn, "INSERT INTO t SELECT generate_series(1, 3000)")
		apply(t, conn, "BEGIN", "INSERT INTO t SELECT generate_series(1, 3000)", "ROLLBACK")
	}
	var triggers int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM information_schema.triggers").Scan(&triggers))
	require.Zero(t, triggers)
}
