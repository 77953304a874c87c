package occ_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/postgres"
	"github.com/go-dsql/dsql/occ"
)

const itemTable = "CREATE TABLE item (id bigint PRIMARY KEY, name text NOT NULL, n int CHECK (n >= 0))"

var item = occ.LoadOptions{Table: pgx.Identifier{"item"}, Columns: []string{"id", "name", "n"}, Key: []string{"id"}}

// items yields n rows, of which edit may change any.
func items(n int, edit func(*occ.LoadRow)) iter.Seq2[occ.LoadRow, error] {
	return func(yield func(occ.LoadRow, error) bool) {
		for i := 1; i <= n; i++ {
			row := occ.LoadRow{Line: i, Values: []any{strconv.Itoa(i), fmt.Sprintf("item %d", i), i}}
			if edit != nil {
				edit(&row)
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

func itemPool(t *testing.T, c *dsqltest.Cluster) *pgxpool.Pool {
	t.Helper()
	return newClusterPool(t, c, 4, func(*pgxpool.Config) {}, itemTable)
}

func count(t *testing.T, db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string) (n int64) {
	t.Helper()
	var err error
	for range 10 { // a fault may have been left over
		if err = db.QueryRow(t.Context(), sql).Scan(&n); err == nil {
			break
		}
	}
	require.NoError(t, err)
	return n
}

func TestLoadStaysUnderTheLimits(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	before := c.Stats()
	progress, err := occ.Load(t.Context(), pool, items(3500, nil), item)
	require.NoError(t, err)
	require.Equal(t, occ.LoadProgress{Inserted: 3500, Line: 3500}, progress)
	require.Equal(t, int64(3500), count(t, pool, "SELECT count(*) FROM item"))
	require.EqualValues(t, 4, c.Stats().Commits-before.Commits, "1,000 rows a transaction")

	// Rows of 900 KiB: by their number they would be 20 times over the limit of 10 MiB.
	large := strings.Repeat("x", 900<<10)
	progress, err = occ.Load(t.Context(), pool, items(40, func(r *occ.LoadRow) {
		r.Values[0], r.Values[1] = strconv.Itoa(10_000+r.Line), large
	}), item)
	require.NoError(t, err)
	require.EqualValues(t, 40, progress.Inserted)
}

func TestLoadIsIdempotent(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	_, err := occ.Load(t.Context(), pool, items(1500, nil), item)
	require.NoError(t, err)

	progress, err := occ.Load(t.Context(), pool, items(2000, func(r *occ.LoadRow) { r.Values[1] = "new" }), item)
	require.NoError(t, err)
	require.Equal(t, occ.LoadProgress{Inserted: 500, Present: 1500, Line: 2000}, progress)
	require.EqualValues(t, 500, count(t, pool, "SELECT count(*) FROM item WHERE name = 'new'"))

	update := item
	update.Update = true
	_, err = occ.Load(t.Context(), pool, items(2000, func(r *occ.LoadRow) { r.Values[1] = "newest" }), update)
	require.NoError(t, err)
	require.EqualValues(t, 2000, count(t, pool, "SELECT count(*) FROM item WHERE name = 'newest'"))
}

// A COMMIT that was applied and not answered is settled by running the batch again.
func TestLoadSettlesUnknownOutcomes(t *testing.T) {
	t.Parallel()
	for _, cut := range []dsqltest.CommitCut{dsqltest.BeforeApplied, dsqltest.AfterApplied} {
		c := dsqltest.Start(t)
		pool := itemPool(t, c)
		c.CutAtCommit(cut)
		progress, err := occ.Load(t.Context(), pool, items(100, nil), item)
		require.NoError(t, err)
		require.EqualValues(t, 100, progress.Inserted+progress.Present)
		require.EqualValues(t, 100, count(t, pool, "SELECT count(*) FROM item"))
	}
}

// Every row is inserted once, whatever fails.
func TestLoadSurvivesCutsAndConflicts(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	o := item
	o.MaxRows, o.OnProgress = 50, plague(c)
	progress, err := occ.Load(t.Context(), pool, items(5000, nil), o)
	require.NoError(t, err)
	require.EqualValues(t, 5000, progress.Inserted+progress.Present)
	require.Equal(t, 5000, progress.Line)
	require.EqualValues(t, 5000*5001/2, count(t, pool, "SELECT sum(n) FROM item"))
	require.EqualValues(t, 5000, count(t, pool, "SELECT count(*) FROM item"))
}

// plague returns an OnProgress that injects a fault after each batch, so that they never pile up.
func plague(c *dsqltest.Cluster) func(occ.LoadProgress) {
	n := 0
	return func(occ.LoadProgress) {
		switch n++; {
		case n%50 == 0:
			c.CutConnections()
		case n%4 == 0:
			c.CutAtCommit(dsqltest.BeforeApplied)
		case n%4 == 2:
			c.CutAtCommit(dsqltest.AfterApplied)
		default:
			c.ConflictNext(1)
		}
	}
}

// incompressible is a text of n characters.
func incompressible(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rand.IntN(26))
	}
	return string(b)
}

func TestLoadRejectsBadRows(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	bad := map[int]string{7: "22P02", 500: "23502", 501: "23514", 1200: "22003", 1999: "54000"}
	spoil := func(r *occ.LoadRow) {
		r.Source = r.Line
		switch r.Line {
		case 7:
			r.Values[0] = "seven"
		case 500:
			r.Values[1] = nil
		case 501:
			r.Values[2] = -1
		case 1200:
			r.Values[0] = "99999999999999999999"
		case 1999:
			r.Values[1] = incompressible(1<<20 + 1)
		}
	}
	got := make(map[int]string)
	o := item
	o.OnReject = func(row occ.LoadRow, reason error) error {
		require.Equal(t, row.Line, row.Source)
		var pg *pgconn.PgError
		require.ErrorAs(t, reason, &pg)
		got[row.Line] = pg.Code
		return nil
	}
	progress, err := occ.Load(t.Context(), pool, items(2000, spoil), o)
	require.NoError(t, err)
	require.Equal(t, bad, got)
	require.Equal(t, occ.LoadProgress{Inserted: 1995, Rejected: 5, Line: 2000}, progress)
	require.EqualValues(t, 1995, count(t, pool, "SELECT count(*) FROM item"))

	o.OnReject = nil
	_, err = occ.Load(t.Context(), pool, items(10, spoil), o)
	require.ErrorContains(t, err, "line 7")

	enough := errors.New("enough")
	o.OnReject = func(occ.LoadRow, error) error { return enough }
	_, err = occ.Load(t.Context(), pool, items(10, spoil), o)
	require.ErrorIs(t, err, enough)
}

// What fewer rows, or others, may cure divides a batch; anything else ends the load.
func TestLoadDividesByState(t *testing.T) {
	t.Parallel()
	for code, divides := range map[string]bool{
		"21000": true, "22P02": true, "23505": true, "54000": true, "54001": true, "08P01": true,
		"42P01": false, "0A000": false, "53200": false, "XX000": false, "25006": false,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			refusal := pgError(code, "refused")
			if code == "08P01" {
				refusal.Severity = "FATAL"
			}
			s := startSQL(t, first(1, fakepg.Execute, "insert", fakepg.Reply{Err: refusal}))
			progress, err := occ.Load(t.Context(), s.pool, items(4, nil), item)
			if divides {
				require.NoError(t, err)
				require.Equal(t, 4, progress.Line)
				return
			}
			require.ErrorContains(t, err, code)
			require.Zero(t, progress)
		})
	}
}

// Two rows of one key in a batch are both settled, in either mode.
func TestLoadTakesAKeyTwice(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	for _, update := range []bool{false, true} {
		o := item
		o.Update = update
		progress, err := occ.Load(t.Context(), pool, items(10, func(r *occ.LoadRow) { r.Values[0] = strconv.Itoa(r.Line % 5) }), o)
		require.NoError(t, err)
		require.Zero(t, progress.Rejected)
		require.EqualValues(t, 5, count(t, pool, "SELECT count(*) FROM item"))
	}
}

// With one worker the order of the rows counts, within a batch and among batches.
func TestLoadKeepsTheOrderOfAKey(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	for update, want := range map[bool]int64{false: 1 + 2 + 3 + 4 + 5, true: 46 + 47 + 48 + 49 + 50} {
		pool := newClusterPool(t, c, 2, func(*pgxpool.Config) {}, "DROP TABLE IF EXISTS item", itemTable)
		o := item
		o.Update, o.Workers, o.MaxRows = update, 1, 7
		progress, err := occ.Load(t.Context(), pool, items(50, func(r *occ.LoadRow) { r.Values[0] = strconv.Itoa(r.Line % 5) }), o)
		require.NoError(t, err)
		require.Equal(t, 50, progress.Line)
		require.Equal(t, want, count(t, pool, "SELECT sum(n) FROM item"))
	}
}

func TestLoadResumes(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	o := item
	o.MaxRows = 10
	ctx, cancel := context.WithCancel(t.Context())
	progress, err := occ.Load(ctx, pool, items(1000, func(r *occ.LoadRow) {
		if r.Line == 500 {
			cancel()
		}
	}), o)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, progress.Line, 500)
	require.EqualValues(t, progress.Line, count(t, pool, fmt.Sprintf("SELECT count(*) FROM item WHERE id <= %d", progress.Line)),
		"all rows before the line are there")

	rest := func(yield func(occ.LoadRow, error) bool) {
		for row, err := range items(1000, nil) {
			if row.Line > progress.Line && !yield(row, err) {
				return
			}
		}
	}
	_, err = occ.Load(t.Context(), pool, rest, o)
	require.NoError(t, err)
	require.EqualValues(t, 1000, count(t, pool, "SELECT count(*) FROM item"))
}

// What rows yielded before its error is loaded, and the error is Load's.
func TestLoadEndsWithTheRows(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	broken := errors.New("broken")
	rows := func(yield func(occ.LoadRow, error) bool) {
		for row := range items(15, nil) {
			if !yield(row, nil) {
				return
			}
		}
		yield(occ.LoadRow{}, broken)
	}
	progress, err := occ.Load(t.Context(), pool, rows, item)
	require.ErrorIs(t, err, broken)
	require.Equal(t, 15, progress.Line)
	require.EqualValues(t, 15, count(t, pool, "SELECT count(*) FROM item"))
}

// DSQL_LOAD_ROWS=1000000 go test -run TestLoadMany -v: rows a second beside one COPY into
// PostgreSQL.
func TestLoadMany(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("DSQL_LOAD_ROWS"))
	if err != nil {
		t.Skip("set DSQL_LOAD_ROWS to the number of rows")
	}
	engine, err := postgres.Start(t.Context())
	require.NoError(t, err)
	plain, err := pgx.ParseConfig("user=dsqltest dbname=postgres sslmode=disable host=/")
	require.NoError(t, err)
	plain.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return engine.Dial(ctx) }
	conn, err := pgx.ConnectConfig(t.Context(), plain)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), itemTable)
	require.NoError(t, err)
	began := time.Now()
	_, err = conn.CopyFrom(t.Context(), item.Table, item.Columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) {
		return []any{i, fmt.Sprintf("item %d", i), i}, nil
	}))
	require.NoError(t, err)
	copied := time.Since(began)
	t.Logf("COPY: %d rows in %v, %.0f rows/s", n, copied, float64(n)/copied.Seconds())

	c := dsqltest.Start(t)
	for _, faults := range []bool{false, true} {
		pool := newClusterPool(t, c, 8, func(*pgxpool.Config) {}, "DROP TABLE IF EXISTS item", itemTable)
		o := item
		if faults {
			o.OnProgress = plague(c)
		}
		o.Workers = 8
		o.Retry = []occ.RetryOption{occ.WithMaxElapsed(5 * time.Minute)}
		began := time.Now()
		progress, err := occ.Load(t.Context(), pool, items(n, nil), o)
		took := time.Since(began)
		require.NoError(t, err)
		require.EqualValues(t, n, count(t, pool, "SELECT count(DISTINCT id) FROM item"))
		require.EqualValues(t, n, count(t, pool, "SELECT count(*) FROM item"))
		require.EqualValues(t, n, progress.Inserted+progress.Present)
		t.Logf("faults %v: %d rows in %v, %.0f rows/s, 1/%.1f of COPY, %d of them settled by a second attempt",
			faults, n, took, float64(n)/took.Seconds(), took.Seconds()/copied.Seconds(), progress.Present)
	}
}
