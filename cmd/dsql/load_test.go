package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

func TestCSVIsReadAsByCOPY(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want []csvRecord
	}{
		{"a,b\n", []csvRecord{{1, "a,b", []csvField{{"a", false}, {"b", false}}}}},
		{"a,b", []csvRecord{{1, "a,b", []csvField{{"a", false}, {"b", false}}}}},
		{"\ufeffa\r\nb\r\n", []csvRecord{{1, "a", []csvField{{"a", false}}}, {2, "b", []csvField{{"b", false}}}}},
		{"a,\n\n,\"\"\n", []csvRecord{{1, "a,", []csvField{{"a", false}, {"", false}}}, {3, `,""`, []csvField{{"", false}, {"", true}}}}},
		{"\"x\n\"\"y\"\"\",z\nb\n", []csvRecord{{1, "\"x\n\"\"y\"\"\",z", []csvField{{"x\n\"y\"", true}, {"z", false}}}, {3, "b", []csvField{{"b", false}}}}},
		{`a"b,c"d,e` + "\n", []csvRecord{{1, `a"b,c"d,e`, []csvField{{"ab,cd", true}, {"e", false}}}}},
		{" a , b\n", []csvRecord{{1, " a , b", []csvField{{" a ", false}, {" b", false}}}}},
	} {
		r := newCSVReader(strings.NewReader(tt.in), ',')
		var got []csvRecord
		for {
			record, err := r.read()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			got = append(got, record)
		}
		require.Equal(t, tt.want, got, "%q", tt.in)
	}
	_, err := newCSVReader(strings.NewReader("\"a\n"), ',').read()
	require.ErrorContains(t, err, "line 1: a quote is not closed before the end")
	_, err = newCSVReader(io.MultiReader(strings.NewReader("\""), strings.NewReader(strings.Repeat("x\n", maxRecord))), ',').read()
	require.ErrorContains(t, err, "line 1: a quote is not closed within 16 MiB")
}

func TestParseTable(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]pgx.Identifier{
		"Orders":          {"orders"},
		"App.Orders":      {"app", "orders"},
		`"Orders"`:        {"Orders"},
		`app."or.d""ers"`: {"app", `or.d"ers`},
		"a.b.c":           nil,
		"":                nil,
		"a.":              nil,
		`"a`:              nil,
	} {
		got, err := parseTable(given)
		require.Equal(t, want == nil, err != nil, given)
		if want != nil {
			require.Equal(t, want, got)
		}
	}
}

// loadCluster is a cluster with a table, and a connection to it.
func loadCluster(t *testing.T, table string) (*dsqltest.Cluster, []string, *pgx.Conn) {
	t.Helper()
	c, env := start(t)
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	_, err = conn.Exec(t.Context(), table)
	require.NoError(t, err)
	return c, env, conn
}

const orderTable = `CREATE TABLE orders (id bigint PRIMARY KEY, city text, n int CHECK (n > 0))`

func write(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

func dump(t *testing.T, conn *pgx.Conn, query string) string {
	t.Helper()
	rows, err := conn.Query(t.Context(), query)
	require.NoError(t, err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(values, " ")
}

func TestLoad(t *testing.T) {
	t.Parallel()
	_, env, conn := loadCluster(t, orderTable)
	const all = "SELECT coalesce(id::text || ':' || coalesce(city, 'NULL'), '') FROM orders ORDER BY id"

	one := write(t, "1.csv", "id,city\n1,Bern\n2,\n3,\"\"\n")
	two := write(t, "2.csv", "city,id\n\"Aix, la\",4\n")
	r := runIn(t, env, "load", "orders", one, two)
	require.Equal(t, 0, r.code, r.err)
	require.Regexp(t, `^4 rows inserted, 0 present, 0 rejected, in `, r.out)
	require.Equal(t, "1:Bern 2:NULL 3: 4:Aix, la", dump(t, conn, all))
	require.NoFileExists(t, one+".progress")
	require.NoFileExists(t, one+".rejects")

	r = runIn(t, env, "load", "Orders", one, "--on-conflict", "skip")
	require.Regexp(t, `^0 rows inserted, 3 present, 0 rejected`, r.out)

	changed := write(t, "3.csv", "2\tBonn\n3\t-\n")
	r = runIn(t, env, "load", "public.orders", changed, "--columns", "id,city", "--delimiter", `\t`, "--null", "-", "--on-conflict", "update")
	require.Equal(t, 0, r.code, r.err)
	require.Equal(t, "1:Bern 2:Bonn 3:NULL 4:Aix, la", dump(t, conn, all))

	stdin := dsqlCommand(t, env, "load", "orders", "-", "--rejects", filepath.Join(t.TempDir(), "r"), "--key", "id", "--workers", "1")
	stdin.Stdin = strings.NewReader("id\n5\n")
	r = runCommand(t, stdin)
	require.Equal(t, 0, r.code, r.err)
	require.Contains(t, dump(t, conn, all), "5:NULL")
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	_, env, conn := loadCluster(t, orderTable)
	_, err := conn.Exec(t.Context(), "CREATE TABLE log (line text)")
	require.NoError(t, err)
	file := write(t, "f.csv", "id,city\n1,Bern\n")
	for _, tt := range []struct{ args, want string }{
		{"nope " + file, `there is no table "nope"`},
		{"log " + file, "no primary key"},
		{"orders " + write(t, "f.csv", "city\nBern\n"), `no column "id", which is in the key: it has city`},
		{"orders " + write(t, "f.csv", ""), "the file is empty"},
		{"orders " + write(t, "f.csv", "id,nope\n1,2\n"), "42703"},
		{"orders /nowhere.csv", "no such file"},
		{"orders -", "--rejects"},
		{"orders " + file + " --key city", "42P10"},
		{"orders " + write(t, "f.csv", "id\n1\n\"2\n"), "line 3: a quote is not closed"},
	} {
		r := runIn(t, env, append([]string{"load"}, strings.Fields(tt.args)...)...)
		require.NotZero(t, r.code, tt.args)
		require.Contains(t, r.err, tt.want)
		require.True(t, strings.HasPrefix(r.err, "dsql: "), r.err)
	}
	require.Equal(t, "1", dump(t, conn, "SELECT count(*)::text FROM orders"), "what comes before a broken record is loaded")
}

func rejects(t *testing.T, file string) [][]string {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	return records
}

func TestLoadWritesRejects(t *testing.T) {
	t.Parallel()
	_, env, conn := loadCluster(t, orderTable)
	file := write(t, "f.csv", "id,city,n\n1,Bern,1\n2,\"two\nlines\",0\n\n3,Bonn\nfour,Brno,4\n5,Graz,5\n")
	r := runIn(t, env, "load", "orders", file)
	require.Equal(t, 3, r.code, r.err)
	require.Regexp(t, `^2 rows inserted, 0 present, 3 rejected`, r.out)
	require.Contains(t, r.err, "dsql: 3 rows were rejected")
	got := rejects(t, file+".rejects")
	require.ElementsMatch(t, [][]string{
		{"line", "reason", "row"},
		{"3", `23514 new row for relation "orders" violates check constraint "orders_n_check"`, "2,\"two\nlines\",0"},
		{"6", "2 fields for 3 columns", "3,Bonn"},
		{"7", `22P02 invalid input syntax for type bigint: "four"`, "four,Brno,4"},
	}, got)
	require.Equal(t, "1 5", dump(t, conn, "SELECT id::text FROM orders ORDER BY id"))

	r = runIn(t, env, "load", "orders", file, "--max-rejects", "1")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "more than 1 rows were rejected")
}

// NULL is never equal to NULL: each load would insert such rows again.
func TestLoadRejectsANullKey(t *testing.T) {
	t.Parallel()
	_, env, conn := loadCluster(t, "CREATE TABLE visit (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), day text UNIQUE)")
	file := write(t, "f.csv", "day\n\"\"\nmonday\n-\n")
	for range 2 {
		r := runIn(t, env, "load", "visit", file, "--key", "day", "--null", "-")
		require.Equal(t, 3, r.code, r.err)
		require.Equal(t, [][]string{{"line", "reason", "row"}, {"4", `the key column "day" must not be NULL`, "-"}}, rejects(t, file+".rejects"))
		require.Equal(t, "2", dump(t, conn, "SELECT count(*)::text FROM visit"))
	}
}

// A load that was killed continues where it was, and its rejects are complete.
func TestLoadGoesOn(t *testing.T) {
	t.Parallel()
	c, env, conn := loadCluster(t, orderTable)
	var b strings.Builder
	b.WriteString("id,city,n\n")
	const rows = 4000
	for i := 1; i <= rows; i++ {
		n := 1
		if i%500 == 0 {
			n = 0 // rejected
		}
		fmt.Fprintf(&b, "%d,Bern,%d\n", i, n)
	}
	file := write(t, "f.csv", b.String())
	args := []string{"load", "orders", file, "--rows", "50", "--workers", "2"}

	c.SetLatency(15 * time.Millisecond) // slow enough to be killed in the middle
	cmd := dsqlCommand(t, env, args...)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { _, err := os.Stat(file + ".progress"); return err == nil }, 30*time.Second, time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
	require.Error(t, cmd.Wait())
	c.SetLatency(0)
	require.NotEqual(t, fmt.Sprint(rows-rows/500), dump(t, conn, "SELECT count(*)::text FROM orders"), "it was killed too late")

	r := runIn(t, env, args...)
	require.Equal(t, 3, r.code, r.err)
	require.NotContains(t, r.out, fmt.Sprintf("%d rows inserted", rows-rows/500), "it started over")
	require.Equal(t, fmt.Sprint(rows-rows/500), dump(t, conn, "SELECT count(*)::text FROM orders"))
	got := rejects(t, file+".rejects")
	lines := make(map[string]bool)
	for _, record := range got[1:] {
		lines[record[0]] = true
	}
	require.Len(t, lines, rows/500)
	require.Len(t, got, rows/500+1, "each once")
	require.NoFileExists(t, file+".progress")
}

func TestLoadIsInterrupted(t *testing.T) {
	t.Parallel()
	c, env, _ := loadCluster(t, orderTable)
	file := write(t, "f.csv", "id\n"+strings.Join(numbers(3000), "\n")+"\n")
	c.SetLatency(20 * time.Millisecond)
	cmd := dsqlCommand(t, env, "load", "orders", file, "--rows", "10", "--workers", "2")
	var errs lockedBuffer
	cmd.Stderr = &errs
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { _, err := os.Stat(file + ".progress"); return err == nil }, 30*time.Second, time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, errs.String(), "dsql: interrupted; "+file+" is loaded up to line ")

	other := write(t, "f.csv", "id\n1\n")
	require.NoError(t, os.Rename(file+".progress", other+".progress"))
	r := runIn(t, env, "load", "orders", other)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "--restart")
	r = runIn(t, env, "load", "orders", other, "--restart")
	require.Equal(t, 0, r.code, r.err)
}

func numbers(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	return texts
}

// The command and the library have the same defaults, and help names the bounds.
func TestLoadDefaults(t *testing.T) {
	t.Parallel()
	help := loadCommand.help()
	for flag, o := range map[string]occ.LoadOptions{
		"NUMBER of transactions at the same time, at most 100": {Workers: -1},
		"NUMBER of rows in a transaction, at most 3000":        {MaxRows: -1},
	} {
		o.Table, o.Columns, o.Key = pgx.Identifier{"t"}, []string{"id"}, []string{"id"}
		_, err := occ.Load(t.Context(), nil, nil, o)
		require.Error(t, err)
		_, def, ok := strings.Cut(err.Error(), "or 0 for ")
		require.True(t, ok, err)
		require.Contains(t, help, fmt.Sprintf("%s (default %s)\n", flag, def))
	}
	for _, arg := range []string{"--workers=0", "--workers=101", "--rows=0", "--rows=3001"} {
		r := runIn(t, nil, "load", "t", "f.csv", arg)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.err, "must be 1 to ")
	}
}

// The display is one line on a terminal and plain lines otherwise.
func TestDisplay(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := &display{out: &out, began: time.Now().Add(-time.Second), last: time.Now().Add(-time.Hour)}
	d.show(500, 1, 2, 0.5)
	d.show(600, 1, 2, 0.6) // too soon
	d.end()
	require.Regexp(t, `^ 50%  500 rows inserted, 1 present, 2 rejected, \d+ rows/s\n$`, out.String())

	out.Reset()
	d = &display{out: &out, terminal: true, began: time.Now().Add(-time.Second), last: time.Now().Add(-time.Hour)}
	d.show(500, 0, 0, -1)
	d.end()
	require.Regexp(t, `^\r500 rows inserted.*\n$`, out.String())
}
