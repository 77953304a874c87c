package dsqltest

import (
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// The proxy passes a result on as it comes: 64 MB of it do not stay in the heap, which the client
// and the proxy share here.
func TestALargeResultDoesNotStayInMemory(t *testing.T) {
	conn := connect(t, Start(t))
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	const large = "SELECT repeat('x', 1048576) FROM generate_series(1, 64)"
	inUse := func() uint64 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapInuse
	}
	read := func(mode pgx.QueryExecMode, before uint64) {
		t.Helper()
		rows, err := conn.Query(t.Context(), large, mode)
		require.NoError(t, err)
		defer rows.Close()
		size := 0
		for rows.Next() {
			size += len(rows.RawValues()[0])
			require.Less(t, inUse(), before+24<<20, "after %d bytes", size)
		}
		require.NoError(t, rows.Err())
		require.Equal(t, 64<<20, size)
	}
	runtime.GC()
	before := inUse()
	for _, mode := range modes {
		read(mode, before)
		apply(t, conn, "BEGIN", "UPDATE t SET id = 2")
		read(mode, before)
		apply(t, conn, "ROLLBACK")
	}
	received := writer(func(data []byte) { require.Less(t, inUse(), before+24<<20) })
	_, err := conn.PgConn().CopyTo(t.Context(), received, "COPY ("+large+") TO STDOUT")
	require.NoError(t, err)
}

// writer is called with what is written.
type writer func(data []byte)

func (w writer) Write(data []byte) (int, error) {
	w(data)
	return len(data), nil
}
