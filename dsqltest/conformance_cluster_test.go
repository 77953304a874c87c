package dsqltest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/conformance"
)

// target returns a cluster as conformance puts statements to it.
func target(c *Cluster) conformance.Cluster {
	return conformance.Cluster{Connect: func(ctx context.Context, schema string) (*pgx.Conn, error) {
		return dsql.Connect(ctx, c.Endpoint(), c.Region(), append(c.Options(), dsql.WithRuntimeParam("search_path", schema))...)
	}}
}

// records returns the rows and scenarios of the records that begin so, as one file.
func records(t *testing.T, sql ...string) []conformance.File {
	t.Helper()
	chosen := conformance.File{Source: "some records", Date: "2026", Name: "some.json"}
	for _, file := range conformanceFiles(t) {
		matches := func(text string) bool {
			return slices.ContainsFunc(sql, func(start string) bool { return strings.HasPrefix(text, start) })
		}
		for _, row := range file.Rows {
			known := slices.ContainsFunc(chosen.Rows, func(other conformance.Row) bool { return other.SQL == row.SQL && other.Code == row.Code })
			if matches(row.SQL) && (!known || strings.Contains(row.SQL, "pg_sleep")) { // each waits for the job before it
				chosen.Rows = append(chosen.Rows, row)
			}
		}
		for _, s := range file.Scenarios {
			if matches(s.Name) {
				chosen.Scenarios = append(chosen.Scenarios, s)
			}
		}
	}
	return []conformance.File{chosen}
}

// A cluster that answers wrongly in known places stands for a real one, of which the records and
// the local cluster are wrong: the report names these places and no other.
func TestConformanceNamesWhatAClusterAnswersDifferently(t *testing.T) {
	other := Start(t, WithRegion("eu-central-1"))
	require.NoError(t, other.server.Exec(t.Context(), other.database(), "CREATE OR REPLACE FUNCTION sys.dsql_major_version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2'"))
	require.NoError(t, other.FailIndexJobs("no"))
	other.ConflictNext(1)
	campaign := conformance.Campaign{
		Cluster: target(other), Local: target(Start(t)), Endpoint: other.Endpoint(), Region: other.Region(),
		Files: records(t, "SELECT sys.dsql_major_version", "SELECT version()", "SELECT current_schema()", "CREATE TABLE two_c", "ALTER TABLE using_index", "SELECT pg_sleep(0.2)", "TRUNCATE t", "CREATE ROLE lint_r",
			"SELECT status || ' ' || job_type || ' ' || class_id", "SELECT pg_table_size", "writes of different rows", "updates of the same row", "a schema change"),
		Dir: t.TempDir(), Confirmed: true, Out: &bytes.Buffer{},
	}
	report, path, err := campaign.Run(t.Context())
	require.NoError(t, err)
	row := func(lines []string) (names []string) {
		for _, line := range lines {
			name, _, _ := strings.Cut(line, " (")
			name, _, _ = strings.Cut(name, ": the local")
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	const same = "updates of the same row: the first to commit wins, step "
	wrong := []string{
		"ALTER TABLE using_index ADD CONSTRAINT c UNIQUE USING INDEX using_index_i",
		"SELECT sys.dsql_major_version()::text",
		same + "5, A: COMMIT",
		same + "6, B: COMMIT",
		same + "7, A: SELECT n::text FROM k WHERE id = 1",
	}
	require.Equal(t, wrong, row(report.Records))
	require.Equal(t, wrong, row(report.Local))
	require.Len(t, report.Skipped, 1)
	require.Contains(t, report.Skipped[0], "CREATE ROLE lint_r: is about the whole cluster")
	require.Contains(t, path, "-eu-central-1.json")

	// With what that cluster answers as the records, the other one is wrong in the same places.
	files, err := conformance.Load(campaign.Dir)
	require.NoError(t, err)
	conn := connect(t, Start(t))
	apply(t, conn, conformance.Table...)
	var differ []string
	for _, r := range files[0].Rows {
		if compare(t, conn, pgx.QueryExecModeExec, r) != nil {
			differ = append(differ, r.SQL)
		}
	}
	slices.Sort(differ)
	require.Equal(t, wrong[:2], differ)
}

// All records run in schemas of their own on a cluster that others use, and leave nothing behind.
func TestConformanceLeavesAClusterAlone(t *testing.T) {
	c := Start(t)
	conn := connect(t, c)
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "CREATE TABLE customers (id int PRIMARY KEY)", "CREATE SCHEMA s9", "CREATE TABLE s9.c (id int)",
		"CREATE ROLE lint_r WITH LOGIN", "GRANT SELECT ON t TO lint_r")
	const objects = `SELECT string_agg(o, ' ' ORDER BY o) FROM (
		SELECT nspname || '.' || relname || ':' || relacl::text AS o FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_|^information|^sys$'
		UNION ALL SELECT nspname || '.' || proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname !~ '^pg_|^information|^sys$'
		UNION ALL SELECT nspname || coalesce(nspacl::text, '') FROM pg_namespace UNION ALL SELECT rolname FROM pg_roles
		UNION ALL SELECT extname FROM pg_extension) all_objects`
	look := func() (found string) {
		require.NoError(t, connect(t, c).QueryRow(t.Context(), objects).Scan(&found))
		return found
	}
	before := look()
	for _, file := range conformanceFiles(t) {
		result, err := target(c).Run(t.Context(), file, conformance.Schema())
		require.NoError(t, err, file.Name)
		right := 0
		for i, row := range file.Rows {
			switch a := result.Rows[i]; {
			case a.Skipped != "" || row.Undecided != "" || row.Difference != "":
			case row.Compare(a) == nil:
				right++
			default:
				t.Errorf("%s: %s: %v", file.Name, row.SQL, row.Compare(a))
			}
		}
		for i, s := range file.Scenarios {
			for j, step := range s.Steps {
				if s.Undecided == "" {
					require.NoError(t, step.Compare(result.Scenarios[i][j]), "%s, step %d", s.Name, j+1)
				}
			}
		}
		t.Logf("%s: %d of %d rows", file.Name, right, len(file.Rows))
	}
	require.Equal(t, before, look())
}
