package proxy

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTmp(t *testing.T) {
	first, second := beginTwo(t)
	apply(t, first, "UPDATE t SET n = 1 WHERE id = 1")
	apply(t, second, "UPDATE t SET n = 2 WHERE id = 1")
	apply(t, first, "SELECT FROM t")
	apply(t, second, "COMMIT")
	var n int
	require.NoError(t, first.QueryRow(t.Context(), "UPDATE t SET n = n + 10 WHERE id = 1 RETURNING n").Scan(&n))
	require.Equal(t, 11, n)
	_, err := first.Exec(t.Context(), "COMMIT")
	requireError(t, err, "40001", dataConflict)
}
