//go:build linux || darwin

package postgres

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/testenv"
)

// The test binary runs itself as a program that starts a server and then ends in the way that this
// variable names.
const ending = "DSQL_POSTGRES_TEST_ENDING"

// nssWrapper is the variable with the library that this program uses, if any.
const nssWrapper = "DSQL_POSTGRES_TEST_NSS_WRAPPER"

func TestMain(m *testing.M) {
	how := os.Getenv(ending)
	if how == "" {
		testenv.Clear()
		os.Exit(m.Run())
	}
	if library := os.Getenv(nssWrapper); library != "" {
		useNSSWrapper(library)
	}
	s, err := Start(context.Background())
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(s.dir)
	switch how {
	case "exit":
		os.Exit(3)
	case "panic":
		panic("of the test")
	case "return":
		return
	default: // a signal comes
		select {}
	}
}

// child starts this binary again. It returns the data directory of its server, or its error.
func child(t *testing.T, how string, env ...string) (*exec.Cmd, string, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), ending+"="+how), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	return cmd, strings.TrimSpace(line), err
}

func serverPID(t *testing.T, dir string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	require.NoError(t, err)
	var pid int
	_, err = fmt.Sscan(string(data), &pid)
	require.NoError(t, err)
	return pid
}

func TestServerEndsWithTheProcess(t *testing.T) {
	for how, end := range map[string]func(*exec.Cmd){
		"exit":                                   nil,
		"panic":                                  nil,
		"return":                                 nil,
		"SIGINT to the process group, as Ctrl-C": func(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) },
		"SIGTERM":                                func(cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGTERM) },
		"SIGKILL":                                func(cmd *exec.Cmd) { _ = cmd.Process.Kill() },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cmd, dir, err := child(t, how)
			require.NoError(t, err)
			require.True(t, filepath.IsAbs(dir), dir)
			if end != nil {
				pid := serverPID(t, dir)
				require.NoError(t, syscall.Kill(pid, 0), "it runs")
				end(cmd)
				require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 30*time.Second, 10*time.Millisecond)
			}
			_ = cmd.Wait()
			require.Eventually(t, func() bool {
				_, err := os.Stat(dir)
				return os.IsNotExist(err)
			}, 30*time.Second, 10*time.Millisecond)
		})
	}
}

func TestDataDirectoryIsClosedToOthers(t *testing.T) {
	s, err := Start(t.Context())
	require.NoError(t, err)
	info, err := os.Stat(s.dir)
	require.NoError(t, err)
	require.EqualValues(t, 0o700, info.Mode().Perm())
	if os.Geteuid() == 0 {
		require.NotZero(t, info.Sys().(*syscall.Stat_t).Uid, "the server does not run as root")
	}
}

func TestStartIsSharedAndDatabasesAreApart(t *testing.T) {
	first, err := Start(t.Context())
	require.NoError(t, err)
	second, err := Start(t.Context())
	require.NoError(t, err)
	require.Same(t, first, second)

	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			name := fmt.Sprintf("apart_%d", i)
			if err := first.CreateDatabase(t.Context(), name); err != nil {
				t.Error(err)
				return
			}
			if err := first.Exec(t.Context(), name, "CREATE TABLE t (i int)"); err != nil {
				t.Error(err)
			}
			if err := first.DropDatabase(t.Context(), name); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	require.NoError(t, first.DropDatabase(t.Context(), "never made"))
	require.NoError(t, first.CreateDatabase(t.Context(), "twice"))
	require.ErrorContains(t, first.CreateDatabase(t.Context(), "twice"), "already exists")
	require.NoError(t, first.DropDatabase(t.Context(), "twice"))
}

// To open a session takes longer than to copy a database.
func TestDatabasesAreMadeInOneSession(t *testing.T) {
	s, err := start(t.Context())
	require.NoError(t, err)
	defer s.lifeline.Close()
	dials, dial := 0, s.config.DialFunc
	s.config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		return dial(ctx, network, address)
	}
	for range 3 {
		require.NoError(t, s.CreateDatabase(t.Context(), "blank"))
		require.NoError(t, s.CopyDatabase(t.Context(), "copy", "blank"))
		require.NoError(t, s.DropDatabase(t.Context(), "copy"))
		require.NoError(t, s.DropDatabase(t.Context(), "blank"))
	}
	require.Zero(t, dials)

	require.NoError(t, s.super.Close(t.Context()))
	require.NoError(t, s.CreateDatabase(t.Context(), "blank"))
	require.Equal(t, 1, dials, "a session that has ended is replaced")
	conn, err := s.Connect(t.Context(), "blank")
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, s.EndSessions(t.Context(), "blank"))
	require.NoError(t, s.CopyDatabase(t.Context(), "copy", "blank"), "it has no sessions any more")
	require.Error(t, conn.Ping(t.Context()))
}

func TestAdminOwnsItsDatabaseAndIsNoSuperuser(t *testing.T) {
	s, err := Start(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.CreateDatabase(t.Context(), "owned"))
	t.Cleanup(func() { _ = s.DropDatabase(context.Background(), "owned") })

	config := s.config.Copy()
	config.User, config.Database = "admin", "owned"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var super bool
	var isolation string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT rolsuper, current_setting('transaction_isolation') FROM pg_roles WHERE rolname = current_user").Scan(&super, &isolation))
	require.False(t, super)
	require.Equal(t, "repeatable read", isolation)
	_, err = conn.Exec(t.Context(), "CREATE TABLE public.t (i int)")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "COPY t FROM PROGRAM 'id'")
	require.ErrorContains(t, err, "SQLSTATE 42501")
}

// privateCache is a place for templates that the server's user owns.
func privateCache(t *testing.T, acc account) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "dsqltest-cache")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chown(dir, int(acc.uid), -1))
	return dir
}

func TestManyStartsShareOneTemplate(t *testing.T) {
	acc, err := serverAccount()
	require.NoError(t, err)
	in, err := find(t.Context(), acc)
	require.NoError(t, err)
	cache := privateCache(t, acc)
	var wait sync.WaitGroup
	for range 6 { // each locks a file of its own, as processes do
		wait.Go(func() {
			dir, err := newRecipe(in).template(t.Context(), acc, []string{cache})
			if err != nil || !complete(dir) {
				t.Error(dir, err)
			}
			if copied, _ := filepath.Glob(filepath.Join(dir, "base", "*")); len(copied) != 1 {
				t.Error("each process copies more databases than one:", copied)
			}
			if maps, _ := filepath.Glob(filepath.Join(dir, "base", "*", "[0-9]*_*")); len(maps) > 0 {
				t.Error("each database is copied with", maps)
			}
		})
	}
	wait.Wait()
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, entries, 1, "one template, and no leavings")
}

func TestCacheOfAnotherUserIsRefused(t *testing.T) {
	acc, err := serverAccount()
	require.NoError(t, err)
	theirs := privateCache(t, acc)
	open := privateCache(t, acc)
	require.NoError(t, os.Chmod(open, 0o777))
	other := acc
	other.uid++
	_, err = openCache(t.Context(), other, theirs)
	require.ErrorContains(t, err, "belongs to user")
	_, err = openCache(t.Context(), acc, open)
	require.ErrorContains(t, err, "writable by other users")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(theirs, link))
	_, err = openCache(t.Context(), acc, link)
	require.Error(t, err, "no link is followed")
}

func TestNothingAmbientChangesTheServer(t *testing.T) {
	_, dir, err := child(t, "return",
		"PGHOST=nowhere.invalid", "PGPORT=abc", "PGUSER=eve", "PGPASSWORD=x", "PGDATABASE=other", "PGSSLMODE=bogus",
		"PGOPTIONS=-c search_path=evil", "PGDATA=/nope", "PGTZ=Europe/Athens", "PGCONNECT_TIMEOUT=x", "PGTARGETSESSIONATTRS=standby",
		"PGREQUIREAUTH=bogus", "PGCHANNELBINDING=require", "PGMINPROTOCOLVERSION=9", "LC_ALL=tr_TR.UTF-8", "LANG=xx", "TZ=Asia/Tokyo")
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(dir), dir)
}

func TestUnreadablePGSERVICEIsNamed(t *testing.T) {
	_, line, _ := child(t, "return", "PGSERVICE=missing", "PGSERVICEFILE=/nope")
	require.Contains(t, line, "unset PGSERVICE")
}

func TestNoPostgreSQLSaysWhereItLookedAndWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("DSQLTEST_POSTGRES", "")
	acc, err := serverAccount()
	require.NoError(t, err)
	_, err = findIn(t.Context(), acc, []string{"/nowhere/*/bin"}, []string{"/nowhere/embedded"})
	for _, want := range []string{"PATH: no postgres", "/nowhere/*/bin: nothing", "/nowhere/embedded: nothing", "import _ ", "apt-get install postgresql", "dnf install", "apk add", "brew install"} {
		require.ErrorContains(t, err, want)
	}
}

// program writes a fake PostgreSQL that other users may run.
func program(t *testing.T, version, rest string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fake")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	script := "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'postgres (PostgreSQL) " + version + "'; exit; fi\n" + rest
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

func TestDSQLTEST_POSTGRESIsNotReplacedByAnother(t *testing.T) {
	for name, tt := range map[string]struct{ given, want string }{
		"absent":        {"/nowhere", "no such file"},
		"no PostgreSQL": {t.TempDir(), "no such file"},
		"too old":       {program(t, "13.9", ""), "PostgreSQL 13.9: must be 14 or later"},
		"no version":    {program(t, "elephant", ""), "elephant"},
	} {
		t.Run(name, func(t *testing.T) {
			_, line, _ := child(t, "return", "DSQLTEST_POSTGRES="+tt.given)
			require.Contains(t, line, "error: ")
			require.Contains(t, line, fmt.Sprintf("DSQLTEST_POSTGRES is %q", tt.given))
			require.Contains(t, line, tt.want)
		})
	}
}

func TestServerThatDiesAtStartIsNoticedAtOnce(t *testing.T) {
	dir := program(t, "16.1", `case "$0" in
*initdb) for last; do :; done; mkdir -p "$last"; echo 16 >"$last/PG_VERSION" ;;
*) [ "$1" = --single ] || { echo "FATAL: of the test"; exit 1; } ;;
esac
`)
	start := time.Now()
	_, line, _ := child(t, "return", "DSQLTEST_POSTGRES="+dir)
	require.Contains(t, line, "error: dsqltest: PostgreSQL 16.1 did not start: it exited")
	require.Less(t, time.Since(start), startTimeout/2)
}

func TestCanceledStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	saved := shared
	lock <- struct{}{}
	shared = nil
	<-lock
	t.Cleanup(func() { shared = saved })
	_, err := Start(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func BenchmarkFirstStart(b *testing.B) {
	acc, err := serverAccount()
	require.NoError(b, err)
	in, err := find(b.Context(), acc)
	require.NoError(b, err)
	for b.Loop() {
		cache, err := os.MkdirTemp("/tmp", "dsqltest-cache")
		require.NoError(b, err)
		require.NoError(b, os.Chown(cache, int(acc.uid), -1))
		template, err := newRecipe(in).template(b.Context(), acc, []string{cache})
		require.NoError(b, err)
		s, err := supervise(b.Context(), acc, in, template, nil)
		require.NoError(b, err)
		s.lifeline.Close()
		require.NoError(b, os.RemoveAll(cache))
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		ctx := context.Background()
		s, err := start(ctx)
		require.NoError(b, err)
		s.lifeline.Close()
	}
}

func BenchmarkCreateDatabase(b *testing.B) {
	s, err := Start(b.Context())
	require.NoError(b, err)
	i := 0
	for b.Loop() {
		i++
		require.NoError(b, s.CreateDatabase(b.Context(), fmt.Sprintf("bench_%d", i)))
	}
	for ; i > 0; i-- {
		require.NoError(b, s.DropDatabase(context.Background(), fmt.Sprintf("bench_%d", i)))
	}
}
