//go:build unix

package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/dsqltest"
)

// fakePsql is a psql that prints its environment and arguments. It returns PATH.
func fakePsql(t *testing.T, version, then string) string {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'psql (PostgreSQL) %s'; exit; fi\nenv\nfor a; do echo \"arg=$a\"; done\n%s\n", version, then)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "psql"), []byte(script), 0o755))
	return "PATH=" + dir + ":/usr/bin:/bin"
}

// variables are the lines of env.
func variables(out string) map[string]string {
	vars := make(map[string]string)
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		vars[name] = value
	}
	return vars
}

func TestPsqlGetsWhatItsVersionSupports(t *testing.T) {
	t.Parallel()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, nil, 0o600))
	for version, want := range map[string]struct{ roots, negotiation string }{
		"15.18 (Debian 15.18-0+deb12u1)": {roots, ""},
		"16.4":                           {"system", ""},
		"17.0":                           {"system", "direct"},
		"18beta1":                        {"system", "direct"},
	} {
		r := runIn(t, append([]string{fakePsql(t, version, ""), "SSL_CERT_FILE=" + roots}, static...), "psql", endpoint1, "--user", "app", "--", "-c", "select 1", "x y")
		require.Equal(t, 0, r.code, r.err)
		vars := variables(r.out)
		require.Equal(t, want.roots, vars["PGSSLROOTCERT"], version)
		require.Equal(t, want.negotiation, vars["PGSSLNEGOTIATION"], version)
		require.Equal(t, []string{endpoint1, "5432", "postgres", "app", "verify-full"},
			[]string{vars["PGHOST"], vars["PGPORT"], vars["PGDATABASE"], vars["PGUSER"], vars["PGSSLMODE"]})
		require.Equal(t, "DbConnect", query(t, vars["PGPASSWORD"]).Get("Action"))
		_, args, _ := strings.Cut(r.out, "arg=")
		require.Equal(t, "-c\narg=select 1\narg=x y\n", args)
	}
}

// Variables that would connect psql to another host are not passed on.
func TestPsqlIgnoresOtherConnectionVariables(t *testing.T) {
	t.Parallel()
	env := append([]string{fakePsql(t, "18.0", ""), "PGHOSTADDR=10.0.0.1", "PGSERVICE=other", "PGSERVICEFILE=/other", "PGPASSFILE=/other",
		"PGSSLMODE=disable", "PGPORT=1", "PGHOST=other", "PGUSER=other", "PGPASSWORD=other", "PGCHANNELBINDING=require",
		"PGAPPNAME=mine", "PSQLRC=/mine", "PGOPTIONS=-c search_path=app"}, static...)
	vars := variables(runIn(t, env, "psql", endpoint1).out)
	for _, name := range []string{"PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGCHANNELBINDING"} {
		require.NotContains(t, vars, name)
	}
	require.Equal(t, []string{endpoint1, "5432", "admin", "verify-full", "mine", "/mine", "-c search_path=app"},
		[]string{vars["PGHOST"], vars["PGPORT"], vars["PGUSER"], vars["PGSSLMODE"], vars["PGAPPNAME"], vars["PSQLRC"], vars["PGOPTIONS"]})

	vars = variables(runIn(t, env, "psql", endpoint1, "--dial-address", "[::1]:15432").out)
	require.Equal(t, []string{endpoint1, "::1", "15432"}, []string{vars["PGHOST"], vars["PGHOSTADDR"], vars["PGPORT"]})
}

// caFile returns a file with a certificate.
func caFile(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	file := filepath.Join(t.TempDir(), "my ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return file
}

// What a URL says of the session and of trust reaches psql, over the environment's.
func TestPsqlGetsTheSettingsOfTheURL(t *testing.T) {
	t.Parallel()
	ca := caFile(t)
	settings := "?search_path=app%2C%20%22a%5Cb%22&options=-c%20datestyle%3DISO&application_name=my%20app&connect_timeout=3&sslnegotiation=postgres&token_lifetime=15m&sslrootcert=" + strings.ReplaceAll(ca, " ", "%20")
	env := append([]string{fakePsql(t, "18.0", ""), "PGAPPNAME=other", "PGCONNECT_TIMEOUT=7", "PGOPTIONS=-c search_path=other"}, static...)
	r := runIn(t, env, "psql", "postgres://app@"+endpoint1+"/postgres"+settings)
	require.Equal(t, 0, r.code, r.err)
	vars := variables(r.out)
	require.Equal(t, []string{"my app", "3", "postgres", ca, "900"},
		[]string{vars["PGAPPNAME"], vars["PGCONNECT_TIMEOUT"], vars["PGSSLNEGOTIATION"], vars["PGSSLROOTCERT"], query(t, vars["PGPASSWORD"]).Get("X-Amz-Expires")})
	require.Equal(t, `-c search_path=other -c datestyle=ISO -c search_path=app,\ "a\\b"`, vars["PGOPTIONS"])

	other := caFile(t)
	vars = variables(runIn(t, env, "psql", "postgres://"+endpoint1+settings, "--root-cert", other, "--expires", "1h", "--dial-address", "127.0.0.1:1").out)
	require.Equal(t, []string{other, "3600"}, []string{vars["PGSSLROOTCERT"], query(t, vars["PGPASSWORD"]).Get("X-Amz-Expires")}, "flags override")
	require.Contains(t, vars["PGOPTIONS"], "-c datestyle=ISO")

	vars = variables(runIn(t, env, "psql", "postgres://"+endpoint1+"?sslrootcert=system").out)
	require.Equal(t, []string{"system", "28800", "other", "7", "-c search_path=other"},
		[]string{vars["PGSSLROOTCERT"], query(t, vars["PGPASSWORD"]).Get("X-Amz-Expires"), vars["PGAPPNAME"], vars["PGCONNECT_TIMEOUT"], vars["PGOPTIONS"]})
}

func TestPsqlOnAClusterHasTheSettingsOfTheURL(t *testing.T) {
	t.Parallel()
	needPsql(t)
	c, env := start(t)
	r := runIn(t, env, "psql", c.URL()+"&search_path=%22a%20b%22%2C%20app&application_name=my%20app", "--", "-XAtc", "SHOW search_path", "-c", "SHOW application_name")
	require.Equal(t, result{"\"a b\", app\nmy app\n", "", 0}, r)
}

func TestPsqlExitStatus(t *testing.T) {
	t.Parallel()
	r := runIn(t, append([]string{fakePsql(t, "16.1", "exit 3")}, static...), "psql", endpoint1)
	require.Equal(t, 3, r.code)

	r = runIn(t, append([]string{"PATH=" + t.TempDir()}, static...), "psql", endpoint1)
	require.Equal(t, 127, r.code)
	require.Contains(t, r.err, "apt-get install postgresql-client")

	r = runIn(t, append([]string{fakePsql(t, "of the house", "")}, static...), "psql", endpoint1)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "names no version")
}

// A signal reaches psql, and its end is the command's.
func TestPsqlTakesSignals(t *testing.T) {
	t.Parallel()
	cmd := dsqlCommand(t, append([]string{fakePsql(t, "16.1", "trap 'echo caught; exit 42' TERM\necho ready\nwhile :; do sleep 0.05; done")}, static...), "psql", endpoint1)
	var out lockedBuffer
	cmd.Stdout = &out
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "ready") }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Error(t, cmd.Wait())
	require.Equal(t, 42, cmd.ProcessState.ExitCode())
	require.Contains(t, out.String(), "caught")
}

func needPsql(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("psql is not installed")
	}
}

func TestPsqlOnACluster(t *testing.T) {
	t.Parallel()
	needPsql(t)
	_, env := start(t, dsqltest.WithRole("app"))
	r := runIn(t, env, "psql", "--user", "app", "--", "-XAtc", "SELECT current_user")
	require.Equal(t, result{"app\n", "", 0}, r)

	cmd := dsqlCommand(t, env, "psql", "--", "-XAt", "-v", "ON_ERROR_STOP=1")
	cmd.Stdin = strings.NewReader("SELECT 1;\nSELECT nonsense;\n")
	r = runCommand(t, cmd)
	require.Equal(t, 3, r.code, "a failing script has psql's own status: %s", r.err)
	require.Equal(t, "1\n", r.out)
}

// An interactive psql reconnects after the session has ended, long after 15 minutes.
func TestPsqlReconnects(t *testing.T) {
	t.Parallel()
	needPsql(t)
	if runtime.GOOS != "linux" {
		t.Skip("a terminal is made with script of util-linux, so this was not tried")
	}
	c, env := start(t)
	cmd := exec.CommandContext(t.Context(), "script", "-qec", os.Args[0]+" psql -- -XAt", "/dev/null")
	cmd.Env = append(append(bareEnv(t), env...), "TERM=dumb", "PAGER=cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	var out lockedBuffer
	cmd.Stdout = &out
	require.NoError(t, cmd.Start())
	said := func(sql, want string) {
		t.Helper()
		_, err := io.WriteString(in, sql+"\n")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return strings.Contains(out.String(), want) }, 20*time.Second, 10*time.Millisecond, "%s", &out)
	}
	said("SELECT 'a' || 'b';", "ab")
	c.SetClockOffset(time.Hour)
	c.ExpireSessions()
	said("SELECT 1;", "Succeeded")
	said("SELECT 'c' || 'd';", "cd")
	said("\\q", "")
	require.NoError(t, cmd.Wait())
}
