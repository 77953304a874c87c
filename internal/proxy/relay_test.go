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
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
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

func TestCopyBothWays(t *testing.T) {
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

func TestALargeResult(t *testing.T) {
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

func TestALargeParameter(t *testing.T) {
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

// sleeping begins a long statement and returns when the engine is at it.
func sleeping(t *testing.T, c *cluster, conn *pgconn.PgConn) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT pg_sleep(600)").ReadAll()
		done <- err
	}()
	pool := newPool(t, c)
	require.Eventually(t, func() bool {
		var found bool
		err := pool.QueryRow(t.Context(), "SELECT true FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", conn.PID()).Scan(&found)
		return err == nil && found
	}, time.Minute, 5*time.Millisecond)
	return done
}

func TestCancelRequests(t *testing.T) {
	c := start(t)
	for _, negotiation := range []string{"direct", "postgres"} {
		t.Run(negotiation, func(t *testing.T) {
			cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
			cfg.SSLNegotiation = negotiation
			conn, err := login(t, cfg)
			require.NoError(t, err)
			done := sleeping(t, c, conn)
			require.NoError(t, conn.CancelRequest(t.Context()))
			var cancelled *pgconn.PgError
			require.ErrorAs(t, <-done, &cancelled)
			require.Equal(t, "57014", cancelled.Code)
			_, err = conn.Exec(t.Context(), "SELECT 1").ReadAll()
			require.NoError(t, err)
		})
	}
}

func TestACancelRequestWithAnotherKeyDoesNothing(t *testing.T) {
	c := start(t)
	conn, err := login(t, pgConfig(t, c, "admin", signToken(t, c, "admin")))
	require.NoError(t, err)
	done := sleeping(t, c, conn)

	w := dialWire(t, c)
	request, err := (&pgproto3.CancelRequest{ProcessID: conn.PID(), SecretKey: []byte{1, 2, 3, 4}}).Encode(nil)
	require.NoError(t, err)
	w.send(request)
	w.requireClosed()
	require.Empty(t, done)
	require.NoError(t, conn.CancelRequest(t.Context()))
	require.Error(t, <-done)
}

func TestAClientThatLeavesHasItsLastStatementDone(t *testing.T) {
	c := start(t)
	pool := newPool(t, c)
	_, err := pool.Exec(t.Context(), "CREATE TABLE t (i int)")
	require.NoError(t, err)

	w := dialWire(t, c)
	w.startup("user", "admin", "database", "postgres")
	w.requirePasswordRequest()
	w.password(signToken(t, c, "admin"))
	w.requireReady()
	w.Frontend.Send(&pgproto3.Query{String: "INSERT INTO t SELECT 1 FROM pg_sleep(0.05)"})
	require.NoError(t, w.Flush())
	require.NoError(t, w.Conn.Close())
	require.Eventually(t, func() bool {
		var n int
		return pool.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n) == nil && n == 1
	}, time.Minute, 5*time.Millisecond)
}

func TestAClientThatEndsItsSideStillGetsItsAnswer(t *testing.T) {
	c := start(t)
	w := dialWire(t, c)
	w.startup("user", "admin", "database", "postgres")
	w.requirePasswordRequest()
	w.password(signToken(t, c, "admin"))
	w.requireReady()
	w.Frontend.Send(&pgproto3.Query{String: "SELECT pg_sleep(0.05)"})
	require.NoError(t, w.Flush())
	require.NoError(t, w.CloseWrite())
	w.requireReady()
	w.requireClosed()
}

func TestASessionThatTheEngineEndsIsClosed(t *testing.T) {
	c := start(t)
	conn, err := login(t, pgConfig(t, c, "admin", signToken(t, c, "admin")))
	require.NoError(t, err)
	done := sleeping(t, c, conn)
	_, err = newPool(t, c).Exec(t.Context(), "SELECT pg_terminate_backend($1)", conn.PID())
	require.NoError(t, err)
	var ended *pgconn.PgError
	require.ErrorAs(t, <-done, &ended)
	require.Equal(t, "57P01", ended.Code)
	require.Error(t, conn.Ping(t.Context()))
}

func TestADoorOfTheLibraryOpensTheCluster(t *testing.T) {
	c := start(t, withRole("app"))
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), "", append(c.Options(), dsql.WithUser("app"))...)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var user string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_user").Scan(&user))
	require.Equal(t, "app", user)
}

// BenchmarkQuery is a simple query through the cluster and straight to the engine's
// unix socket, in turn, and the medians of both.
func BenchmarkQuery(b *testing.B) {
	c := start(b)
	through, err := newPool(b, c).Acquire(b.Context())
	require.NoError(b, err)
	defer through.Release()
	cfg, err := pgx.ParseConfig("host=engine user=admin sslmode=disable")
	require.NoError(b, err)
	cfg.Database = c.cfg.Database
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.cfg.Server.Dial(ctx) }
	straight, err := pgx.ConnectConfig(b.Context(), cfg)
	require.NoError(b, err)
	defer straight.Close(context.Background())

	query := func(conn *pgx.Conn) time.Duration {
		var one int
		start := time.Now()
		require.NoError(b, conn.QueryRow(b.Context(), "SELECT 1").Scan(&one))
		return time.Since(start)
	}
	var cluster, engine []time.Duration
	for b.Loop() {
		cluster = append(cluster, query(through.Conn()))
		engine = append(engine, query(straight))
	}
	median := func(times []time.Duration) float64 {
		slices.Sort(times)
		return float64(times[len(times)/2].Nanoseconds()) / 1000
	}
	b.ReportMetric(median(cluster), "µs-cluster")
	b.ReportMetric(median(engine), "µs-engine")
	b.ReportMetric(median(cluster)-median(engine), "µs-overhead")
	b.ReportMetric(0, "ns/op")
}
