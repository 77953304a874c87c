package dsqltest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/dialect"
)

// records is a file of testdata/conformance: what one source has of DSQL's answers.
type records struct {
	Source, Date, Class string // Class is recorded, observed or documented
	Rows                []record
}

// record is what DSQL answers a statement.
type record struct {
	Source, Class string   // if not the file's
	Setup         []string // before it; one that begins with ! fails
	SQL           string
	Code          string // SQLSTATE; empty: it works
	Message       string // a part of it
	Refused       bool   // in unknown words
	Tag           string // empty: any
	Value         string // the first of the first row; empty: any
	Last          string // a part of the last of the last row
	Difference    string // how a cluster of dsqltest differs, on some PostgreSQL at least
	Undecided     string // why another answer may be right; the row is not compared
}

func conformance(t *testing.T) (files []records) {
	t.Helper()
	names, err := filepath.Glob("testdata/conformance/*.json")
	require.NoError(t, err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		var file records
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&file), name)
		require.NotEmpty(t, file.Date, name)
		for i := range file.Rows {
			row := &file.Rows[i]
			row.Source, row.Class = cmp.Or(row.Source, file.Source), cmp.Or(row.Class, file.Class)
			require.Contains(t, []string{"recorded", "observed", "documented"}, row.Class, "%s: %s", name, row.SQL)
		}
		files = append(files, file)
	}
	return files
}

// count is how many rows of a source the cluster answers as DSQL does.
type count struct{ right, wrong, undecided int }

// TestConformance puts DSQL's answers beside the cluster's, in every mode of pgx. make
// conformance prints what it counts.
func TestConformance(t *testing.T) {
	files := conformance(t)
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			counts := map[string]*count{}
			var total count
			for _, file := range files {
				conn := connect(t, Start(t))
				apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n int, s text, j jsonb, b bytea)", "INSERT INTO t SELECT i, i FROM generate_series(1, 10) i")
				for _, row := range file.Rows {
					c := counts[row.Source]
					if c == nil {
						c = &count{}
						counts[row.Source] = c
					}
					if row.Undecided != "" {
						t.Logf("undecided: %s: %s", row.SQL, row.Undecided)
						c.undecided++
						total.undecided++
						continue
					}
					err := row.compare(t, conn, mode)
					switch {
					case err == nil:
						c.right++
						total.right++
						continue
					case row.Difference != "":
						t.Logf("known difference: %s: %v: %s", row.SQL, err, row.Difference)
					default:
						t.Errorf("%s: %s: %v", row.Source, row.SQL, err)
					}
					c.wrong++
					total.wrong++
				}
			}
			require.GreaterOrEqual(t, total.right, 500)
			for _, source := range slices.Sorted(maps.Keys(counts)) {
				c := counts[source]
				t.Logf("conformance, %v: %d right, %d wrong, %d undecided: %s", mode, c.right, c.wrong, c.undecided, source)
			}
			t.Logf("conformance, %v: %d right, %d wrong, %d undecided in all", mode, total.right, total.wrong, total.undecided)
		})
	}
}

// compare returns how the cluster's answer differs.
func (r record) compare(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode) error {
	defer func() {
		if conn.PgConn().TxStatus() != 'I' {
			_, err := conn.Exec(t.Context(), "ROLLBACK")
			require.NoError(t, err)
		}
	}()
	for _, sql := range r.Setup {
		sql, fails := strings.CutPrefix(sql, "!")
		if _, err := conn.Exec(t.Context(), sql, mode); (err != nil) != fails {
			return fmt.Errorf("before it, %s: %w", sql, err)
		}
	}
	if strings.Contains(r.SQL, "; ") { // a string of several statements has the simple protocol only
		mode = pgx.QueryExecModeSimpleProtocol
	}
	value, last, tag, err := ends(t, conn, mode, r.SQL)
	var answered *pgconn.PgError
	refused := errors.As(err, &answered)
	switch {
	case r.Refused && !refused:
		return fmt.Errorf("%v, not an error", err)
	case r.Refused:
		return nil
	case r.Code != "" && (!refused || answered.Code != r.Code || !strings.Contains(answered.Message, r.Message)):
		return fmt.Errorf("%v, not %s %q", err, r.Code, r.Message)
	case r.Code == "" && err != nil:
		return err
	case r.Tag != "" && tag != r.Tag:
		return fmt.Errorf("the tag is %q, not %q", tag, r.Tag)
	case r.Value != "" && value != r.Value:
		return fmt.Errorf("the value is %q, not %q", value, r.Value)
	case !strings.Contains(last, r.Last):
		return fmt.Errorf("the last value is %q, not %q", last, r.Last)
	}
	return nil
}

// ends returns the first value of the first row and of the last, as text, and the tag.
func ends(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode, sql string) (first, last, tag string, err error) {
	rows, err := conn.Query(t.Context(), sql, mode)
	if err != nil {
		return "", "", "", err
	}
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if values := rows.RawValues(); len(values) > 0 {
			last = string(values[0])
		}
		if n == 0 {
			first = last
		}
	}
	return first, last, rows.CommandTag().String(), rows.Err()
}

func TestDifferencesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/testing.md")
	require.NoError(t, err)
	for _, file := range conformance(t) {
		for _, row := range file.Rows {
			require.Contains(t, string(doc), row.Difference)
		}
	}
}

// rulesTable returns the table of rules in docs/testing.md.
func rulesTable() string {
	var b strings.Builder
	b.WriteString("| Statement | Example | Answer | |\n| --- | --- | --- | --- |\n")
	for _, r := range dialect.Rules() {
		fmt.Fprintf(&b, "| %s | `%s` | %s `%s` | %s |\n", r.Statement, r.Example, r.Code, r.Message, r.Source)
	}
	return b.String()
}

func TestRulesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/testing.md")
	require.NoError(t, err)
	require.True(t, strings.Contains(string(doc), rulesTable()), "docs/testing.md should have\n%s", rulesTable())
}

func TestEveryRuleHoldsAtTheCluster(t *testing.T) {
	for _, mode := range modes {
		conn := connect(t, Start(t))
		for _, r := range dialect.Rules() {
			_, err := conn.Exec(t.Context(), r.Example, mode)
			var told *pgconn.PgError
			require.ErrorAs(t, err, &told, r.Example)
			require.Equal(t, []string{r.Code, r.Message, r.Hint}, []string{told.Code, told.Message, told.Hint})
			require.Equal(t, byte('I'), conn.PgConn().TxStatus())
		}
		apply(t, conn, "SELECT 1")
	}
}

func TestFilesForCIAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/testing.md")
	require.NoError(t, err)
	for _, name := range []string{"github-actions.yml", "Dockerfile"} {
		file, err := os.ReadFile("../examples/ci/" + name)
		require.NoError(t, err)
		require.Contains(t, string(doc), "\n"+string(file)+"```")
	}
}
