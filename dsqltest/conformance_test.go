package dsqltest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/dialect"
)

// answer is an entry of testdata/conformance.json: DSQL's answer to a statement.
type answer struct {
	Source     string   // recorded, observed or documented
	Setup      []string // before it; one that begins with ! fails
	SQL        string
	Code       string // SQLSTATE; empty: it works
	Message    string // a part of it
	Tag        string // empty: any
	Value      string // the first of the first row; empty: any
	Difference string // how a cluster of dsqltest differs, on some PostgreSQL at least
}

func answers(t *testing.T) (answers []answer) {
	t.Helper()
	data, err := os.ReadFile("testdata/conformance.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &answers))
	return answers
}

// TestConformance compares the cluster's answers with DSQL's, in every query execution mode of pgx.
// make conformance prints the counts.
func TestConformance(t *testing.T) {
	list := answers(t)
	require.GreaterOrEqual(t, len(list), 150)
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			conn := connect(t, Start(t))
			apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n int, s text, j jsonb, b bytea)", "INSERT INTO t SELECT i, i FROM generate_series(1, 10) i")
			same := 0
			for _, want := range list {
				err := want.compare(t, conn, mode)
				switch {
				case err == nil:
					same++
				case want.Difference != "":
					t.Logf("known difference: %s: %v", want.SQL, err)
				default:
					t.Errorf("%s: %v", want.SQL, err)
				}
			}
			t.Logf("conformance, %v: %d of %d statements are answered as DSQL answers them (%.1f %%)", mode, same, len(list), 100*float64(same)/float64(len(list)))
		})
	}
}

// compare returns how the cluster's answer differs from a.
func (a answer) compare(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode) error {
	defer func() {
		if conn.PgConn().TxStatus() != 'I' {
			_, err := conn.Exec(t.Context(), "ROLLBACK")
			require.NoError(t, err)
		}
	}()
	for _, sql := range a.Setup {
		sql, fails := strings.CutPrefix(sql, "!")
		if _, err := conn.Exec(t.Context(), sql, mode); (err != nil) != fails {
			return fmt.Errorf("before it, %s: %w", sql, err)
		}
	}
	if strings.Contains(a.SQL, "; ") { // a string of several statements has the simple protocol only
		mode = pgx.QueryExecModeSimpleProtocol
	}
	value, tag, err := first(t, conn, mode, a.SQL)
	var told *pgconn.PgError
	switch {
	case a.Code != "" && (!errors.As(err, &told) || told.Code != a.Code || !strings.Contains(told.Message, a.Message)):
		return fmt.Errorf("%v, not %s %q", err, a.Code, a.Message)
	case a.Code == "" && err != nil:
		return err
	case a.Tag != "" && tag != a.Tag:
		return fmt.Errorf("the tag is %q, not %q", tag, a.Tag)
	case a.Value != "" && value != a.Value:
		return fmt.Errorf("the value is %q, not %q", value, a.Value)
	}
	return nil
}

// first returns the first value of the first row, as text, and the command tag.
func first(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode, sql string) (value, tag string, err error) {
	rows, err := conn.Query(t.Context(), sql, mode)
	if err != nil {
		return "", "", err
	}
	defer rows.Close()
	if rows.Next() && len(rows.RawValues()) > 0 {
		value = string(rows.RawValues()[0])
	}
	rows.Close()
	return value, rows.CommandTag().String(), rows.Err()
}

func TestDifferencesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/testing.md")
	require.NoError(t, err)
	for _, a := range answers(t) {
		require.Contains(t, string(doc), a.Difference)
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
