package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestPreparedStatements(t *testing.T) {
	c := start(t)
	pool := newPool(t, c)
	for range 3 { // described, then from the cache
		var sum int
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT $1::int + $2::int", 40, 2).Scan(&sum))
		require.Equal(t, 42, sum)
	}
	batch := &pgx.Batch{}
	for i := range 100 {
		batch.Queue("SELECT $1::int", i)
	}
	results := pool.SendBatch(t.Context(), batch)
	for want := range 100 {
		var got int
		require.NoError(t, results.QueryRow().Scan(&got))
		require.Equal(t, want, got)
	}
	require.NoError(t, results.Close())
}

func TestCopy(t *testing.T) {
	c := start(t)
	conn, err := newPool(t, c).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "CREATE TABLE t (id int, name text)")
	require.NoError(t, err)

	const rows = 3_000
	copied, err := conn.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"id", "name"},
		pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{i, fmt.Sprint(strings.Repeat("x", 100), " name ", i)}, nil }))
	require.NoError(t, err)
	require.EqualValues(t, rows, copied)

	var out bytes.Buffer
	tag, err := conn.Conn().PgConn().CopyTo(t.Context(), &out, "COPY (SELECT * FROM t ORDER BY id) TO STDOUT")
	require.NoError(t, err)
	require.EqualValues(t, rows, tag.RowsAffected())
	require.True(t, strings.HasSuffix(out.String(), " name 2999\n"))

	_, err = conn.Conn().PgConn().CopyFrom(t.Context(), strings.NewReader("1\tx\nnonsense\n"), "COPY t FROM STDIN")
	require.ErrorContains(t, err, "invalid input syntax for type integer")
	require.NoError(t, conn.Ping(t.Context()))
}

func TestLargeResult(t *testing.T) {
	c := start(t)
	rows, err := newPool(t, c).Query(t.Context(), "SELECT repeat(md5(i::text), 32 * 1024) FROM generate_series(1, 50) i")
	require.NoError(t, err)
	size := 0
	for rows.Next() {
		size += len(rows.RawValues()[0])
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 50<<20, size)
}

func TestLargeParameter(t *testing.T) {
	c := start(t)
	var size int
	require.NoError(t, newPool(t, c).QueryRow(t.Context(), "SELECT length($1::text)", strings.Repeat("x", 8<<20)).Scan(&size))
	require.Equal(t, 8<<20, size)
}

func TestNotices(t *testing.T) {
	c := start(t)
	cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
	var notices []string
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	conn, err := login(t, cfg)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "DROP TABLE IF EXISTS nothing").ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{`table "nothing" does not exist, skipping`}, notices)
}

// BenchmarkQuery alternates a query through the proxy with one on PostgreSQL's Unix socket and
// reports the medians.
func BenchmarkQuery(b *testing.B) {
	c := start(b)
	through, err := newPool(b, c).Acquire(b.Context())
	require.NoError(b, err)
	defer through.Release()
	cfg, err := pgx.ParseConfig("host=postgres user=admin sslmode=disable")
	require.NoError(b, err)
	cfg.Database = c.cfg.Database
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.cfg.Server.Dial(ctx) }
	straight, err := pgx.ConnectConfig(b.Context(), cfg)
	require.NoError(b, err)
	defer straight.Close(context.Background())

	_, err = through.Exec(b.Context(), "CREATE TABLE t (id int PRIMARY KEY, n int)")
	require.NoError(b, err)
	_, err = through.Exec(b.Context(), "INSERT INTO t VALUES (1, 0)")
	require.NoError(b, err)
	query := func(conn *pgx.Conn) {
		var one int
		require.NoError(b, conn.QueryRow(b.Context(), "SELECT 1").Scan(&one))
	}
	transaction := func(conn *pgx.Conn) {
		var n int
		tx, err := conn.Begin(b.Context())
		require.NoError(b, err)
		require.NoError(b, tx.QueryRow(b.Context(), "SELECT n FROM t WHERE id = $1", 1).Scan(&n))
		_, err = tx.Exec(b.Context(), "UPDATE t SET n = $2 WHERE id = $1", 1, n+1)
		require.NoError(b, err)
		require.NoError(b, tx.Commit(b.Context()))
	}
	b.Run("SELECT 1", func(b *testing.B) { compare(b, query, through.Conn(), straight) })
	b.Run("BEGIN, SELECT, UPDATE, COMMIT", func(b *testing.B) { compare(b, transaction, through.Conn(), straight) })
}

func compare(b *testing.B, run func(*pgx.Conn), through, straight *pgx.Conn) {
	measure := func(conn *pgx.Conn) time.Duration {
		start := time.Now()
		run(conn)
		return time.Since(start)
	}
	var cluster, direct []time.Duration
	for b.Loop() {
		cluster = append(cluster, measure(through))
		direct = append(direct, measure(straight))
	}
	median := func(times []time.Duration) float64 {
		slices.Sort(times)
		return float64(times[len(times)/2].Nanoseconds()) / 1000
	}
	b.ReportMetric(median(cluster), "µs-cluster")
	b.ReportMetric(median(direct), "µs-direct")
	b.ReportMetric(median(cluster)-median(direct), "µs-overhead")
	b.ReportMetric(median(cluster)/median(direct), "cluster/direct")
	b.ReportMetric(0, "ns/op")
}
