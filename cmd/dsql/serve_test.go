//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// serving is a run of serve that has become ready.
type serving struct {
	cmd *exec.Cmd
	dir string   // for temporary files
	env []string // what it exports
	out *bufio.Reader
}

func serve(t *testing.T, args ...string) *serving {
	t.Helper()
	s := &serving{dir: shortDir(t)}
	ready := filepath.Join(s.dir, "ready")
	if i := slices.Index(args, "CA"); i >= 0 {
		args[i] = filepath.Join(s.dir, "ca.pem")
	}
	s.cmd = dsqlCommand(t, []string{"TMPDIR=" + s.dir}, append([]string{"serve", "--listen", "127.0.0.1:0", "--ready-file", ready}, args...)...)
	out, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	s.out = bufio.NewReader(out)
	s.cmd.Stderr = os.Stderr
	require.NoError(t, s.cmd.Start())
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	var text []byte
	require.Eventually(t, func() bool { text, err = os.ReadFile(ready); return err == nil }, time.Minute, 10*time.Millisecond)
	s.env = exported(t, string(text))
	return s
}

// shortDir is a temporary directory whose path has room for a socket, open to PostgreSQL's user.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "dsqlcli")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// exported has a shell carry out exports.
func exported(t *testing.T, exports string) []string {
	t.Helper()
	cmd := exec.Command("sh", "-c", exports+"\nenv")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "AWS_PROFILE=other", "PGPASSWORD=other"}
	out, err := cmd.Output()
	require.NoError(t, err)
	env := strings.Split(strings.TrimSpace(string(out)), "\n")
	return slices.DeleteFunc(env, func(v string) bool {
		return !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "DSQL_")
	})
}

// left are the names in a directory.
func left(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestServeEndsClean(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			s := serve(t, "--ca-file", "CA")
			require.Len(t, left(t, s.dir), 3, "PostgreSQL's files, the certificate authority, the ready file")
			require.NoError(t, s.cmd.Process.Signal(signal))
			err := s.cmd.Wait()
			if signal == syscall.SIGKILL {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
			}
			require.Eventually(t, func() bool { return len(left(t, s.dir)) == 0 }, 20*time.Second, 10*time.Millisecond)
		})
	}
}

// The output is for people; the ready file and --env are for a shell.
func TestServePrintsItsEnvironment(t *testing.T) {
	t.Parallel()
	s := serve(t, "--role", "app", "--region", "eu-west-1")
	vars := variables(strings.Join(s.env, "\n"))
	require.Equal(t, "app", vars["PGUSER"])
	require.Equal(t, "eu-west-1", vars["AWS_REGION"])
	require.Regexp(t, `^[a-z0-9]{26}\.dsql\.eu-west-1\.on\.aws$`, vars["PGHOST"])
	require.FileExists(t, vars["PGSSLROOTCERT"])
	require.NotContains(t, vars, "PGPASSWORD")
	require.NotContains(t, vars, "AWS_PROFILE")
	info, err := os.Stat(filepath.Join(s.dir, "ready"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it has a key in it")
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	out, err := io.ReadAll(s.out)
	require.NoError(t, err)
	require.Contains(t, string(out), "endpoint  "+vars["PGHOST"])
	require.Contains(t, string(out), "CA file   "+vars["PGSSLROOTCERT"])

	s = serve(t, "--env")
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	out, err = io.ReadAll(s.out)
	require.NoError(t, err)
	require.ElementsMatch(t, s.env, exported(t, string(out)))
}

func TestServeExec(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]result{
		"kill -9 $$": {"", "", 137},
		`echo "$1 $PGUSER"; test -f "$PGSSLROOTCERT" && exit 7`: {"--flag app\n", "", 7},
	} {
		r := runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--role", "app", "--exec", "sh", "-c", script, "sh", "--flag")
		require.Equal(t, want, r)
	}
	r := runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--exec", "no-such-command")
	require.Equal(t, 127, r.code)
	require.Contains(t, r.err, "dsql: running the command")
}

func TestServeWithFixedNames(t *testing.T) {
	t.Parallel()
	needPsql(t)
	// The keys that the client has are its own, not those that serve exports.
	script := `export AWS_ACCESS_KEY_ID=AKIAFIXED AWS_SECRET_ACCESS_KEY=fixed; "$0" psql ` + endpoint1 +
		` --dial-address "$DSQL_DIAL_ADDRESS" --root-cert "$DSQL_ROOT_CERT" -- -XAtc "SELECT 1"`
	r := runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--cluster-id", clusterID, "--keys", "AKIAFIXED:fixed", "--exec", "sh", "-c", script, os.Args[0])
	require.Equal(t, result{"1\n", "", 0}, r)

	for _, tt := range []struct{ flag, value, want string }{
		{"--cluster-id", "short", "26 characters"},
		{"--keys", "nocolon", "ID:SECRET"},
		{"--region", "moon", "us-east-1"},
		{"--role", "admin", "always"},
		{"--listen", "5432", "host:port"},
	} {
		r := runIn(t, nil, "serve", tt.flag, tt.value)
		require.NotZero(t, r.code)
		require.Contains(t, r.err, tt.want)
	}
}

// What the image of the Dockerfile runs, as a user without privileges and with its own files.
func TestServeAsInTheImage(t *testing.T) {
	t.Parallel()
	dockerfile, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	_, entry, ok := strings.Cut(string(dockerfile), "\nENTRYPOINT ")
	require.True(t, ok)
	var command []string
	require.NoError(t, json.Unmarshal([]byte(entry), &command))
	require.Equal(t, "dsql", command[0])
	require.Contains(t, string(dockerfile), "\nUSER dsql\n")

	dir := shortDir(t)
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	bin := filepath.Join(dir, "dsql")
	require.NoError(t, os.WriteFile(bin, self, 0o755))
	for i, arg := range command {
		command[i] = strings.Replace(strings.Replace(arg, "/shared", dir, 1), "0.0.0.0:5432", "0.0.0.0:0", 1)
	}
	cmd := dsqlCommand(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, append(command[1:], "--role", "app")...)
	cmd.Path, cmd.Args[0], cmd.Dir = bin, bin, dir
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var text []byte
	require.Eventually(t, func() bool { text, err = os.ReadFile(filepath.Join(dir, "dsql.env")); return err == nil }, time.Minute, 10*time.Millisecond)
	env := exported(t, string(text))
	require.Equal(t, "127.0.0.1", variables(strings.Join(env, "\n"))["PGHOSTADDR"])
	got, r := examine(t, env)
	require.True(t, got.OK, r.out)
	require.Equal(t, "app", got.User)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	require.NoFileExists(t, filepath.Join(dir, "dsql.env"))
	require.NoFileExists(t, filepath.Join(dir, "ca.pem"))
}

// A signal is passed on to the command, whose status is serve's.
func TestServePassesSignalsOn(t *testing.T) {
	t.Parallel()
	s := serve(t, "--exec", "sh", "-c", "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done")
	line, err := s.out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(s.out)
	require.NoError(t, err)
	require.Equal(t, "caught\n", string(rest))
	require.Error(t, s.cmd.Wait())
	require.Equal(t, 9, s.cmd.ProcessState.ExitCode())
	require.Eventually(t, func() bool { return len(left(t, s.dir)) == 0 }, 20*time.Second, 10*time.Millisecond)
}

func TestServeAppliesASchema(t *testing.T) {
	t.Parallel()
	needPsql(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.sql"), []byte("CREATE TABLE city (id int PRIMARY KEY, name text);\nCREATE INDEX ASYNC ON city (name);"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2.sql"), []byte("INSERT INTO city VALUES (1, 'Bern; or not');"), 0o600))
	r := runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--schema", dir, "--exec", os.Args[0], "psql", "--", "-XAtc", "SELECT name FROM city")
	require.Equal(t, result{"Bern; or not\n", "", 0}, r)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "3.sql"), []byte("TRUNCATE city;"), 0o600))
	r = runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--schema", dir, "--exec", "true")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "dsql: the schema in "+dir+": 3.sql: TRUNCATE city")
	r = runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--schema", t.TempDir(), "--exec", "true")
	require.Contains(t, r.err, "must have files *.sql")
}

// psql of the system, with a token of the command.
func TestServePsql(t *testing.T) {
	t.Parallel()
	needPsql(t)
	script := `PGPASSWORD=$("$0" token) psql -XAtc "SELECT current_user || ' ' || version()"`
	r := runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--role", "app", "--exec", "sh", "-c", script, os.Args[0])
	require.Equal(t, result{"app PostgreSQL 16\n", "", 0}, r)
}

func TestServeRefusesAPortThatIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	r := runIn(t, nil, "serve", "--listen", l.Addr().String())
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "--listen")
}

// libpq does not decode a + in a URL.
func TestServeURLOfAPathWithASpace(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortDir(t), "a b+c")
	require.NoError(t, os.Mkdir(dir, 0o700))
	file := filepath.Join(dir, "ca.pem")
	s := serve(t, "--ca-file", file)
	u := valueOf(s.env, "DSQL_URL")
	require.Contains(t, u, "/a%20b%2Bc/ca.pem")
	_, err := dsql.ParseURL(u)
	require.NoError(t, err)
}
