package dsqltest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/conformance"
	"github.com/go-dsql/dsql/internal/dialect"
)

func conformanceFiles(t *testing.T) []conformance.File {
	t.Helper()
	files, err := conformance.Load("testdata/conformance", "testdata/scenarios")
	require.NoError(t, err)
	return files
}

// count is how many rows of a source the cluster answers as DSQL does.
type count struct{ right, wrong, undecided int }

// TestConformance compares DSQL's answers with the cluster's, in the modes of pgx in turn. make
// conformance has every mode compare all, and prints the counts.
func TestConformance(t *testing.T) {
	files := conformanceFiles(t)
	passes := map[string][]pgx.QueryExecMode{"modes in turn": modes}
	if os.Getenv("DSQL_CONFORMANCE") != "" { // make conformance
		passes = map[string][]pgx.QueryExecMode{}
		for _, mode := range modes {
			passes[mode.String()] = []pgx.QueryExecMode{mode}
		}
	}
	for name, modes := range passes {
		t.Run(name, func(t *testing.T) {
			counts := map[string]*count{}
			var total count
			tally := func(source, what, difference, undecided string, err error) {
				c := counts[source]
				if c == nil {
					c = &count{}
					counts[source] = c
				}
				switch {
				case undecided != "":
					t.Logf("undecided: %s: %s", what, undecided)
					c.undecided++
					total.undecided++
				case err == nil:
					c.right++
					total.right++
				default:
					c.wrong++
					total.wrong++
					if difference == "" {
						t.Errorf("%s: %s: %v", source, what, err)
						return
					}
					t.Logf("known difference: %s: %v: %s", what, err, difference)
				}
			}
			for _, file := range files {
				conn := connect(t, Start(t))
				apply(t, conn, conformance.Table...)
				for i, row := range file.Rows {
					var err error
					if row.Undecided == "" {
						err = compare(t, conn, modes[i%len(modes)], row)
					}
					tally(row.Source, row.SQL, row.Difference, row.Undecided, err)
				}
				for i, s := range file.Scenarios {
					tally(s.Source, s.Name, "", s.Undecided, compareScenario(t, modes[i%len(modes)], s))
				}
			}
			require.GreaterOrEqual(t, total.right, 500)
			for _, source := range slices.Sorted(maps.Keys(counts)) {
				c := counts[source]
				t.Logf("conformance, %s: %d right, %d wrong, %d undecided: %s", name, c.right, c.wrong, c.undecided, source)
			}
			t.Logf("conformance, %s: %d right, %d wrong, %d undecided in all", name, total.right, total.wrong, total.undecided)
		})
	}
}

// compare returns how the cluster's answer differs.
func compare(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode, row conformance.Row) error {
	answer, err := conformance.Put(t.Context(), conn, mode, row)
	if err != nil {
		return err
	}
	return row.Compare(answer)
}

// compareScenario returns how the answers of a cluster of its own differ.
func compareScenario(t *testing.T, mode pgx.QueryExecMode, s conformance.Scenario) error {
	c := Start(t)
	apply(t, connect(t, c), s.Setup...)
	sessions := map[string]*pgx.Conn{}
	for i, step := range s.Steps {
		if sessions[step.Session] == nil {
			sessions[step.Session] = connect(t, c)
		}
		answer, err := conformance.PutOnce(t.Context(), sessions[step.Session], mode, step.SQL)
		if err == nil && s.Undecided == "" {
			err = step.Compare(answer)
		}
		if err != nil {
			return fmt.Errorf("step %d, %s: %s: %w", i+1, step.Session, step.SQL, err)
		}
	}
	return nil
}

func TestDifferencesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/testing.md")
	require.NoError(t, err)
	for _, file := range conformanceFiles(t) {
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
