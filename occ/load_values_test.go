package occ_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// A batch is bounded by its size, whatever the types of its values.
func TestLoadKnowsTheSizeOfValues(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := newClusterPool(t, c, 2, func(*pgxpool.Config) {}, "CREATE TABLE value (id bigint PRIMARY KEY, t text, b bytea, j jsonb)")
	type name string
	type octets []byte
	text := strings.Repeat("x", 9900)
	pointer := &text
	quoted := `"` + text + `"`
	id := 0
	for _, tt := range []struct {
		column string
		value  any
	}{
		{"t", text}, {"t", &text}, {"t", &pointer}, {"t", name(text)}, {"t", []byte(text)},
		{"t", pgtype.Text{String: text, Valid: true}}, {"t", &pgtype.Text{String: text, Valid: true}},
		{"t", sql.NullString{String: text, Valid: true}}, {"t", sql.Null[string]{V: text, Valid: true}}, {"t", zeronull.Text(text)},
		{"b", []byte(text)}, {"b", octets(text)}, {"b", json.RawMessage(text)},
		{"j", json.RawMessage(quoted)}, {"j", []byte(quoted)}, {"j", quoted}, {"j", []string{text}}, {"j", map[string]any{"a": text}},
		{"j", struct{ A any }{text}}, {"j", &struct{ A []string }{[]string{text}}}, {"j", []any{[]any{text}}},
	} {
		before := c.Stats().Commits
		progress, err := occ.Load(t.Context(), pool, func(yield func(occ.LoadRow, error) bool) {
			for range 30 {
				if id++; !yield(occ.LoadRow{Line: id, Values: []any{id, tt.value}}, nil) {
					return
				}
			}
		}, occ.LoadOptions{Table: pgx.Identifier{"value"}, Columns: []string{"id", tt.column}, Key: []string{"id"}, MaxBytes: 64 << 10})
		require.NoError(t, err, "%T", tt.value)
		require.EqualValues(t, 30, progress.Inserted)
		require.EqualValues(t, 5, c.Stats().Commits-before, "%T: 6 rows in 64 KiB", tt.value)
	}
	for _, v := range []any{time.Now(), 1.5, true, pgtype.Int8{Int64: 1, Valid: true}, sql.NullTime{Time: time.Now(), Valid: true}, nil} {
		before := c.Stats().Commits
		_, err := occ.Load(t.Context(), pool, func(yield func(occ.LoadRow, error) bool) {
			for range 30 {
				if id++; !yield(occ.LoadRow{Line: id, Values: []any{id, v}}, nil) {
					return
				}
			}
		}, occ.LoadOptions{Table: pgx.Identifier{"value"}, Columns: []string{"id", "j"}, Key: []string{"id"}, MaxBytes: 960})
		require.NoError(t, err, "%T", v)
		require.EqualValues(t, 1, c.Stats().Commits-before, "%T", v)
	}
}

// A row that no message can hold is refused here: DSQL would cut the connection each time.
func TestLoadRejectsARowThatIsTooLarge(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := itemPool(t, c)
	large := json.RawMessage(strings.Repeat("x", 10<<20))
	o := item
	reasons := map[int]string{}
	o.OnReject = func(row occ.LoadRow, reason error) error { reasons[row.Line] = reason.Error(); return nil }
	progress, err := occ.Load(t.Context(), pool, items(3, func(r *occ.LoadRow) {
		if r.Line == 2 {
			r.Values[1] = &large
		}
	}), o)
	require.NoError(t, err)
	require.Equal(t, occ.LoadProgress{Inserted: 2, Rejected: 1, Line: 3}, progress)
	require.Equal(t, map[int]string{2: "the row of 10485809 bytes does not fit into one message to DSQL, of 10 MiB"}, reasons)
	require.EqualValues(t, 2, count(t, pool, "SELECT count(*) FROM item"))
}

// nullID is a [driver.Valuer] of a pointer, which pgx also calls on nil.
type nullID struct{}

func (*nullID) Value() (driver.Value, error) { return nil, nil }

// An ON CONFLICT never finds a NULL: such a row would be inserted again by each attempt.
func TestLoadRejectsANullKey(t *testing.T) {
	t.Parallel()
	c := dsqltest.Start(t)
	pool := newClusterPool(t, c, 4, func(*pgxpool.Config) {}, "CREATE TABLE visit (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), page text, day text, UNIQUE (page, day))")
	var none *string
	var nones *pgtype.Text
	some := "a"
	nulls := []any{
		nil, none, &none, nones, []byte(nil), pgtype.Text{}, &pgtype.Text{}, sql.NullString{}, sql.Null[string]{}, zeronull.Text(""),
		(*nullID)(nil), &nullID{},
	}
	values := append(slices.Clone(nulls), "a", "", &some, []byte("b"), pgtype.Text{String: "c", Valid: true}, sql.NullString{String: "d", Valid: true}, []byte{})
	o := occ.LoadOptions{Table: pgx.Identifier{"visit"}, Columns: []string{"day", "page"}, Key: []string{"page", "day"}, MaxRows: 3}
	for range 2 {
		c.CutAtCommit(dsqltest.AfterApplied)
		var rejected []int
		o.OnReject = func(row occ.LoadRow, reason error) error {
			require.EqualError(t, reason, `the key column "day" must not be NULL`)
			rejected = append(rejected, row.Line)
			return nil
		}
		progress, err := occ.Load(t.Context(), pool, func(yield func(occ.LoadRow, error) bool) {
			for i, v := range values {
				if !yield(occ.LoadRow{Line: i + 1, Values: []any{v, "home"}}, nil) {
					return
				}
			}
		}, o)
		require.NoError(t, err)
		slices.Sort(rejected)
		require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, rejected)
		require.EqualValues(t, len(nulls), progress.Rejected)
		require.Equal(t, len(values), progress.Line)
		require.EqualValues(t, 5, count(t, pool, "SELECT count(*) FROM visit"), "a, b, c, d and the empty text")
	}

	o.OnReject = nil
	_, err := occ.Load(t.Context(), pool, func(yield func(occ.LoadRow, error) bool) {
		yield(occ.LoadRow{Line: 7, Values: []any{"a", nil}}, nil)
	}, o)
	require.EqualError(t, err, `occ: the row of line 7: the key column "page" must not be NULL`)
}
