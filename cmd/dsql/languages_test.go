//go:build unix

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// snippets returns the blocks of the page that are in a language.
func snippets(t *testing.T, language string) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/other-languages.md")
	require.NoError(t, err)
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(string(page), -1) {
		blocks = append(blocks, m[1])
	}
	require.NotEmpty(t, blocks)
	return blocks
}

// serveExec runs a command as a user of serve does, with dsql on PATH.
func serveExec(t *testing.T, role string, command ...string) result {
	t.Helper()
	bin := t.TempDir()
	require.NoError(t, os.Symlink(os.Args[0], filepath.Join(bin, "dsql")))
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	return runIn(t, env, append([]string{"serve", "--listen", "127.0.0.1:0", "--role", role, "--exec"}, command...)...)
}

// run runs a command with what a cluster that is served exports, and more.
func (s *serving) run(t *testing.T, more []string, command ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(append(bareEnv(t), s.env...), more...)
	return runCommand(t, cmd)
}

func TestShellSnippets(t *testing.T) {
	t.Parallel()
	needPsql(t)
	blocks := snippets(t, "sh")
	require.Len(t, blocks, 2)
	ready := filepath.Join(shortDir(t), "dsql.env")
	r := serveExec(t, "app", "sh", "-ec", strings.ReplaceAll(blocks[0], "/tmp/dsql.env", ready))
	require.Equal(t, 0, r.code, r.err)
	require.Contains(t, r.out, "app\n")
	r = serveExec(t, "app", "sh", "-ec", blocks[1])
	require.Equal(t, 0, r.code, r.err)
	require.Contains(t, r.out, "1")
}

func TestNodeSnippet(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("Node.js is not installed, so its snippet was not tried")
	}
	dir := t.TempDir()
	install := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1", "pg", "@aws-sdk/dsql-signer")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("npm could not install the driver and the SDK, so the snippet was not tried: %v\n%s", err, out)
	}
	file := filepath.Join(dir, "connect.mjs")
	require.NoError(t, os.WriteFile(file, []byte(snippets(t, "js")[0]), 0o600))
	s := serve(t, "--role", "app", "--role", "other")
	for _, role := range []string{"app", "other", "admin"} {
		require.Equal(t, result{role + "\n", "", 0}, s.run(t, []string{"PGUSER=" + role}, "node", file))
	}
	r := s.run(t, []string{"AWS_SECRET_ACCESS_KEY=wrong"}, "node", file)
	require.NotZero(t, r.code)
	require.Contains(t, r.err, "access denied")
}

func TestPythonSnippet(t *testing.T) {
	t.Parallel()
	python := ""
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import psycopg2, botocore").Run() == nil {
			python = name
		}
	}
	if python == "" {
		t.Skip("no Python with psycopg2 and botocore is installed, so its snippet was not tried")
	}
	file := filepath.Join(t.TempDir(), "connect.py")
	require.NoError(t, os.WriteFile(file, []byte(snippets(t, "python")[0]), 0o600))
	s := serve(t, "--role", "app")
	for _, role := range []string{"app", "admin"} {
		require.Equal(t, result{role + "\n", "", 0}, s.run(t, []string{"PGUSER=" + role}, python, file))
	}
}

// The page's Go.
func askUser(ctx context.Context, user *string) error {
	cfg, err := dsql.ParseURL(os.Getenv("DSQL_URL"))
	if err != nil {
		return err
	}
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, connector.PoolConfig())
	if err != nil {
		return err
	}
	defer pool.Close()
	return pool.QueryRow(ctx, "SELECT current_user").Scan(user)
}

// As a program that serve runs: the test binary itself.
func TestGoSnippet(t *testing.T) {
	if os.Getenv("DSQL_URL") != "" && os.Getenv(asProgram) != "" {
		var user string
		require.NoError(t, askUser(t.Context(), &user))
		require.Equal(t, "app", user)
		return
	}
	t.Parallel()
	r := serveExec(t, "app", "env", "-u", asCommand, asProgram+"=1", os.Args[0], "-test.run", "^TestGoSnippet$", "-test.v")
	require.Equal(t, 0, r.code, r.err+r.out)
	require.Contains(t, r.out, "--- PASS: TestGoSnippet")
}

const asProgram = "DSQL_TEST_AS_PROGRAM"

// The page names every variable that serve exports, and no other.
func TestExportsAreDocumented(t *testing.T) {
	t.Parallel()
	_, env := start(t)
	page, err := os.ReadFile("../../docs/other-languages.md")
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(page), "| Variables | For |")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented, exported []string
	for _, m := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(table, -1) {
		documented = append(documented, m[1])
	}
	for _, v := range lastWins(env) {
		name, _, _ := strings.Cut(v, "=")
		exported = append(exported, name)
	}
	require.ElementsMatch(t, exported, documented)
}
