package occ_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

func TestLoadOnOneConnection(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	o := item
	o.Workers, o.MaxRows = 8, 10
	progress, err := occ.Load(t.Context(), conn, items(200, nil), o)
	require.NoError(t, err)
	require.EqualValues(t, 200, progress.Inserted)
}

func TestLoadFailsForWhatNoRowIsToBlameFor(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	reject := func(occ.LoadRow, error) error { return errors.New("not a row's fault") }
	for _, tt := range []struct {
		edit func(*occ.LoadOptions)
		want string
	}{
		{func(o *occ.LoadOptions) { o.Table = pgx.Identifier{"nope"} }, "42P01"},
		{func(o *occ.LoadOptions) { o.Columns = []string{"id", "name", "nope"} }, "42703"},
		{func(o *occ.LoadOptions) { o.Key = []string{"name"} }, "42P10"},
		{func(o *occ.LoadOptions) { o.Key = nil }, `occ: LoadOptions must have a Key: it has the Table ["item"], Columns ["id" "name" "n"] and Key []`},
		{func(o *occ.LoadOptions) { o.Table = nil }, `must have a Table: it has the Table [], Columns ["id" "name" "n"] and Key ["id"]`},
		{func(o *occ.LoadOptions) { *o = occ.LoadOptions{Table: o.Table} }, `must have Columns and a Key: it has the Table ["item"],`},
		{func(o *occ.LoadOptions) { o.Key = []string{"other"} }, "must be one of the columns"},
		{func(o *occ.LoadOptions) { o.MaxRows = 3001 }, "MaxRows 3001"},
		{func(o *occ.LoadOptions) { o.MaxBytes = -1 }, "MaxBytes -1"},
		{func(o *occ.LoadOptions) { o.Workers = -1 }, "Workers -1"},
		{func(o *occ.LoadOptions) { o.Columns = o.Columns[:2] }, "3 values for 2 columns"},
		{func(o *occ.LoadOptions) { o.Retry = []occ.RetryOption{occ.WithMaxAttempts(-1)} }, "attempts -1"},
	} {
		o := item
		o.OnReject = reject
		tt.edit(&o)
		_, err := occ.Load(t.Context(), pool, items(3, nil), o)
		require.ErrorContains(t, err, tt.want)
	}
}

// Names are quoted, and all values are parameters.
func TestLoadQuotes(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := newClusterPool(t, c, 2, func(*pgxpool.Config) {}, `CREATE SCHEMA "My Schema"`, `CREATE TABLE "My Schema"."or""der" ("from" text PRIMARY KEY)`)
	values := []string{"'; DROP TABLE x; --", `back\slash`, "", "ünïcode", "line\nend"}
	rows := func(yield func(occ.LoadRow, error) bool) {
		for i, v := range values {
			if !yield(occ.LoadRow{Line: i, Values: []any{v}}, nil) {
				return
			}
		}
	}
	_, err := occ.Load(t.Context(), pool, rows, occ.LoadOptions{
		Table: pgx.Identifier{"My Schema", `or"der`}, Columns: []string{"from"}, Key: []string{"from"}, Update: true,
	})
	require.NoError(t, err)
	got, err := pool.Query(t.Context(), `SELECT "from" FROM "My Schema"."or""der"`)
	require.NoError(t, err)
	there, err := pgx.CollectRows(got, pgx.RowTo[string])
	require.NoError(t, err)
	slices.Sort(values)
	slices.Sort(there)
	require.Equal(t, values, there)
}
