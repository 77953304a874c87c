package proxy

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestCommitErrorOfPostgreSQLIsForwarded(t *testing.T) {
	for name, commit := range commitWays {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			pool := newTable(t, c, 1)
			_, err := pool.Exec(t.Context(), "CREATE TABLE late (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
			require.NoError(t, err)
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			_, err = conn.Exec(t.Context(), "BEGIN; INSERT INTO late VALUES (1)")
			require.NoError(t, err)
			var told *pgconn.PgError
			require.ErrorAs(t, commit(t.Context(), conn.Conn()), &told)
			require.Equal(t, "23503", told.Code)
			require.NoError(t, conn.Ping(t.Context()))
		})
	}
}
