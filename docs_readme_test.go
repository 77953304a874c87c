package dsql_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

// quickStart is the README's quick start.
func quickStart(ctx context.Context) error {
	pool, err := dsql.NewPool(ctx, "<cluster ID>.dsql.us-east-1.on.aws", "")
	if err != nil {
		return err
	}
	defer pool.Close()

	if err := pool.Ping(ctx); err != nil {
		slog.Error("cannot connect", "error", err, "explanation", dsql.Explain(err))
		return err
	}
	var now time.Time
	err = pool.QueryRow(ctx, "SELECT now()").Scan(&now)
	return err
}

func TestQuickStartSaysThatItsEndpointIsAPlaceholder(t *testing.T) {
	require.ErrorContains(t, quickStart(t.Context()), "<cluster id>")
}

// TestCities is the README's test.
func TestCities(t *testing.T) {
	c := dsqltest.Start(t)
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	defer pool.Close()
	// pool is an empty cluster that no other test uses
}

func blocks(t *testing.T, page, language string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		found = append(found, block[1])
	}
	require.NotEmpty(t, found)
	return found
}

func statements(block string) []string {
	return strings.Split(strings.TrimSuffix(strings.TrimSpace(block), ";"), ";\n")
}

// With the documented statements a service has what it needs: its own tables, and what admin
// creates.
func TestDocumentedRolesWork(t *testing.T) {
	setup, grants := blocks(t, "README.md", "sql")[0], blocks(t, "docs/credentials.md", "sql")
	require.Equal(t, setup, grants[0])
	require.Equal(t, blocks(t, "README.md", "json"), blocks(t, "docs/credentials.md", "json"))

	c := dsqltest.Start(t)
	exec := func(opts []dsql.Option, statements ...string) {
		pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
		require.NoError(t, err)
		defer pool.Close()
		for _, sql := range statements {
			sql = strings.ReplaceAll(sql, "arn:aws:iam::111122223333:role/service", c.Principal())
			_, err := pool.Exec(t.Context(), sql)
			require.NoError(t, err, sql)
		}
	}
	service := []dsql.Option{dsql.WithUser("app"), dsql.WithRuntimeParam("search_path", "app")}
	exec(nil, statements(setup)...)
	exec(service, "CREATE TABLE orders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), item text NOT NULL)",
		"INSERT INTO orders (item) VALUES ('tea')", "UPDATE orders SET item = 'cake'", "DELETE FROM orders")

	exec(nil, "CREATE TABLE app.invoice (id int PRIMARY KEY)", "CREATE TABLE public.city (name text PRIMARY KEY)", "GRANT SELECT ON public.city TO app")
	exec(nil, statements(grants[1])...)
	exec(service, "INSERT INTO invoice VALUES (1)", "DELETE FROM invoice", "SELECT FROM public.city")
}

// The README's comparison has a row for each test.
func TestComparisonIsTested(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("compare/compare_test.go")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(readme), "| --- | --- | --- |\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	tests := regexp.MustCompile(`(?m)^func Test`).FindAll(source, -1)
	require.Len(t, strings.Split(strings.TrimSpace(table), "\n"), len(tests))
}

// Every command in the README is a target of the Makefile or fetches the module.
func TestCommandsOfTheREADMEExist(t *testing.T) {
	for _, block := range blocks(t, "README.md", "sh") {
		for command := range strings.Lines(block) {
			command = strings.TrimSpace(command)
			if target, ok := strings.CutPrefix(command, "make "); ok {
				out, err := exec.Command("make", "-n", target).CombinedOutput()
				require.NoError(t, err, string(out))
				continue
			}
			require.Equal(t, "go get github.com/go-dsql/dsql", command)
		}
	}
}

func TestChangelogIsAtTheModulesVersion(t *testing.T) {
	changelog, err := os.ReadFile("CHANGELOG.md")
	require.NoError(t, err)
	newest := regexp.MustCompile(`(?m)^## (\S+)`).FindSubmatch(changelog)
	require.Equal(t, dsql.ApplicationName, "dsql-go/"+string(newest[1]))
}

// setup runs scripts/setup on a machine with nothing but the commands given, as shell scripts.
func setup(t *testing.T, commands map[string]string) (output string, err error) {
	t.Helper()
	bin := t.TempDir()
	for name, script := range commands {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	for _, name := range []string{"dirname", "sh"} {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(bin, name)))
	}
	cmd := exec.Command("/bin/sh", "scripts/setup")
	cmd.Env = []string{"PATH=" + bin, "STATE=" + filepath.Join(bin, "state")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The scripts of a machine where PostgreSQL is there, can be installed or downloaded: go knows by
// the file $STATE.
const (
	goWithout  = `case $2 in ./install) exit 1;; esac; [ -e "$STATE" ] && read -r found <"$STATE" && echo "$found"`
	goDownload = `case $2 in ./install) echo "downloaded, in cache" >"$STATE";; *) [ -e "$STATE" ] && read -r found <"$STATE" && echo "$found";; esac`
	installs   = `echo "installed as $*" >"$STATE"`
	asUser     = `[ "$1" = -un ] && echo ann || echo 1000`
)

func TestSetupPrefersWhatIsThereThenPackagesThenADownload(t *testing.T) {
	for name, tt := range map[string]struct {
		commands  map[string]string
		want, not string
	}{
		"there": {map[string]string{"go": "echo PostgreSQL 17.1, /there", "apt-get": installs, "id": "echo 0"},
			"setup: using PostgreSQL 17.1, /there\n", "apt-get"},
		"root": {map[string]string{"go": goDownload, "apt-get": installs, "id": "echo 0"},
			"setup: installing PostgreSQL's server with apt-get\nsetup: installed installed as install -y", "download"},
		"sudo": {map[string]string{"go": goDownload, "dnf": installs, "id": asUser, "sudo": `shift; "$@"`},
			"setup: installing PostgreSQL's server with sudo dnf\nsetup: installed installed as install -y postgresql-server\n", "download"},
		"sudo with a password": {map[string]string{"go": goDownload, "dnf": installs, "id": asUser, "sudo": "exit 1"},
			"not installing with dnf\nsetup: downloading PostgreSQL into the cache of user ann\nsetup: downloaded downloaded, in cache\n", "installing PostgreSQL"},
		"without root": {map[string]string{"go": goDownload, "apk": installs, "id": asUser},
			"setup: downloaded downloaded, in cache\n", "installing PostgreSQL"},
		"the package fails": {map[string]string{"go": goDownload, "apt-get": "exit 1", "id": "echo 0"},
			"setup: downloaded downloaded, in cache\n", "neither"},
		"no package manager": {map[string]string{"go": goDownload, "id": "echo 0"},
			"setup: no known package manager\nsetup: downloading PostgreSQL", "neither"},
		"brew": {map[string]string{"go": goWithout, "brew": installs, "id": asUser},
			"setup: installing PostgreSQL's server with brew\nsetup: installed installed as install postgresql@17\n", "sudo"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := setup(t, tt.commands)
			require.NoError(t, err, out)
			require.Contains(t, out, tt.want)
			require.NotContains(t, out, tt.not)
		})
	}
}

// Without root, the error says what to run.
func TestSetupWithoutRootSaysWhatToDo(t *testing.T) {
	out, err := setup(t, map[string]string{"go": goWithout, "id": asUser, "apt-get": "exit 1"})
	require.Error(t, err)
	for _, want := range []string{"su -c 'apt-get update -q && ", "DSQLTEST_EMBEDDED_REPOSITORY", "DSQLTEST_POSTGRES"} {
		require.Contains(t, out, want)
	}
}

// make demo needs the Go version that the README names, not that of the other examples.
func TestDemoNeedsNoMoreThanTheModule(t *testing.T) {
	goVersion := func(file string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(string(text))[1]
	}
	require.Equal(t, goVersion("go.mod"), goVersion("examples/quickstart/go.mod"))
	out, err := exec.Command("make", "-n", "demo").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(out), "cd examples/quickstart &&")
}
