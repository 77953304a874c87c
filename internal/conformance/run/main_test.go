package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/conformance"
)

const records = `{"source": "a test", "date": "2026", "class": "recorded", "rows": [
	{"sql": "SELECT current_schema()", "value": "public"},
	{"sql": "CREATE INDEX ASYNC public.i ON t (n)", "code": "42601"},
	{"sql": "CREATE ROLE app"},
	{"sql": "TRUNCATE t", "refused": true},
	{"sql": "SELECT gen_random_uuid()::text"},
	{"sql": "SELECT count(*)::text FROM t", "value": "11"}
]}`

// target starts a cluster that the environment names, and returns the options of a run.
func target(t *testing.T) (*dsqltest.Cluster, options) {
	t.Helper()
	c := dsqltest.Start(t)
	for _, v := range c.Env() {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value)
		}
	}
	t.Setenv("DSQL_ENDPOINT", c.URL())
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "one.json"), []byte(records), 0o644))
	return c, options{confirmed: true, records: dir, dir: filepath.Join(dir, "clusters")}
}

func TestRun(t *testing.T) {
	c, o := target(t)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), o, nil, &out))
	for _, want := range []string{
		"against the cluster " + c.Endpoint(), "DPU",
		"skipped: 1\n  CREATE ROLE app: is about the whole cluster\n",
		"the records or the documentation differ from this cluster: 1\n  SELECT count(*)::text FROM t (a test): the value is \"10\", not \"11\"\n",
		"the local cluster differs from this cluster: 0\n",
		"the same everywhere: 4\n",
	} {
		require.Contains(t, out.String(), want)
	}

	files, err := conformance.Load(o.dir)
	require.NoError(t, err, "the answers are in the format of the records")
	require.Len(t, files, 1)
	require.Equal(t, "us-east-1", files[0].Region)
	require.Regexp(t, `^\d+\.\d+, DSQL 1$`, files[0].Version)
	require.Equal(t, "recorded", files[0].Class)
	require.Len(t, files[0].Rows, 5)
	require.Equal(t, "public", files[0].Rows[0].Value)
	require.Equal(t, "unsupported statement: Truncate", files[0].Rows[2].Message, "words that were not known are now")
	require.Empty(t, files[0].Rows[3].Value, "random values are not kept")
	require.Equal(t, "10", files[0].Rows[4].Value)
	text, err := os.ReadFile(filepath.Join(o.dir, files[0].Date+"-us-east-1.json"))
	require.NoError(t, err)
	require.NotContains(t, string(text), c.Endpoint()[:26])
}

func TestNothingIsDoneWithoutConfirmation(t *testing.T) {
	c, o := target(t)
	o.confirmed = false
	for _, answer := range []string{"", "no\n", "y\n"} {
		var out bytes.Buffer
		require.ErrorIs(t, run(t.Context(), o, strings.NewReader(answer), &out), conformance.ErrNotConfirmed)
		require.Contains(t, out.String(), "Type yes to begin")
		require.NoDirExists(t, o.dir)
	}
	for _, e := range c.Log() {
		require.NotContains(t, fmt.Sprint(e), "CREATE")
	}
	require.NoError(t, run(t.Context(), o, strings.NewReader("yes\n"), &bytes.Buffer{}))
}

func TestCleanDropsTheSchemasOfRunsOnly(t *testing.T) {
	c, o := target(t)
	conn := open(t, c)
	for _, sql := range []string{"CREATE SCHEMA theirs", "CREATE SCHEMA dsql_conformance_x", "CREATE TABLE dsql_conformance_x.t (id int)"} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	o.clean = true
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), o, nil, &out))
	require.Equal(t, "dropping 1 schemas [dsql_conformance_x]\n", out.String())
	require.Equal(t, []string{"theirs"}, schemas(t, open(t, c)))
}

func TestARoleOtherThanAdminIsRefused(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws")
	t.Setenv("DSQL_REGION", "")
	t.Setenv("DSQL_USER", "app")
	require.ErrorContains(t, run(t.Context(), options{}, nil, &bytes.Buffer{}), `the role is "app": must be admin`)
}

// interrupter interrupts the run at a text.
type interrupter struct {
	at   string
	stop context.CancelFunc
	bytes.Buffer
}

func (i *interrupter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), i.at) {
		i.stop()
	}
	return i.Buffer.Write(p)
}

func TestInterruptedRunGoesOn(t *testing.T) {
	c, o := target(t)
	two := strings.Replace(records, `{"sql": "CREATE ROLE app"}`, `{"sql": "CREATE SCHEMA more"}, {"sql": "SELECT pg_sleep(0.3)::text"}`, 1)
	require.NoError(t, os.WriteFile(filepath.Join(o.records, "two.json"), []byte(two), 0o644))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &interrupter{at: "file 2 of 2", stop: stop}
	err := run(ctx, o, nil, out)
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
	require.Empty(t, schemas(t, open(t, c)), "it cleaned up")

	// What a killed process left is dropped by the next one.
	left, err := os.ReadFile(filepath.Join(o.dir, "unfinished.state"))
	require.NoError(t, err)
	_, schema, _ := strings.Cut(string(left), `"schema": "`)
	schema, _, _ = strings.Cut(schema, `"`)
	_, err = open(t, c).Exec(t.Context(), "CREATE SCHEMA "+schema)
	require.NoError(t, err)
	_, err = open(t, c).Exec(t.Context(), "CREATE SCHEMA "+schema+"_more")
	require.NoError(t, err)

	var again bytes.Buffer
	require.NoError(t, run(t.Context(), o, nil, &again))
	require.Contains(t, again.String(), "1 of 2 files are done")
	require.NotContains(t, again.String(), "file 1 of 2")
	require.Contains(t, again.String(), "the same everywhere: 10\n")
	require.Empty(t, schemas(t, open(t, c)))
	require.NoFileExists(t, filepath.Join(o.dir, "unfinished.state"))
}

func TestUnfinishedRunOfAnotherClusterIsKept(t *testing.T) {
	_, o := target(t)
	require.NoError(t, os.MkdirAll(o.dir, 0o755))
	path := filepath.Join(o.dir, "unfinished.state")
	require.NoError(t, os.WriteFile(path, []byte(`{"cluster": "x", "schema": "dsql_conformance_y", "done": {}}`), 0o644))
	require.ErrorContains(t, run(t.Context(), o, nil, &bytes.Buffer{}), "unfinished.state is of another cluster")
	require.NoError(t, os.WriteFile(path, []byte(`{"cluster"`), 0o644))
	require.ErrorContains(t, run(t.Context(), o, nil, &bytes.Buffer{}), "is damaged")
}

func TestQuotas(t *testing.T) {
	c, o := target(t)
	conn := open(t, c)
	for i := range 7 {
		_, err := conn.Exec(t.Context(), fmt.Sprint("CREATE SCHEMA s", i))
		require.NoError(t, err)
	}
	require.ErrorContains(t, run(t.Context(), o, nil, &bytes.Buffer{}), "the cluster has 7 schemas of 10: the run needs 4")
	require.Len(t, schemas(t, open(t, c)), 7)
}

func open(t *testing.T, c *dsqltest.Cluster) *pgx.Conn {
	t.Helper()
	conn, err := of(c.Config()).Connect(t.Context(), "public")
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func schemas(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT nspname::text FROM pg_namespace WHERE nspname NOT IN ('public', 'sys', 'information_schema') AND nspname !~ '^pg_' ORDER BY 1")
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}
