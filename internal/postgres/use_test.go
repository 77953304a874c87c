//go:build linux || darwin

package postgres

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// supervisorPID returns the process ID of the supervisor of a server.
func supervisorPID(t *testing.T, server int) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "ppid=", "-p", strconv.Itoa(server)).Output()
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	return pid
}

func TestNothingIsLeftWhenTheSupervisorIsKilled(t *testing.T) {
	cmd, dir, err := child(t, "killed")
	require.NoError(t, err)
	server := serverPID(t, dir)
	require.NoError(t, syscall.Kill(supervisorPID(t, server), syscall.SIGKILL))
	require.DirExists(t, dir, "the server runs as long as its process")
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist) && errors.Is(syscall.Kill(server, 0), syscall.ESRCH)
	}, time.Minute, 10*time.Millisecond)
}

func TestFullDirectoryIsPassedOver(t *testing.T) {
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("needs root, to mount a small file system")
	}
	small := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(small), 0o755))
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m,mode=1777", "tmpfs", small).Run(); err != nil {
		t.Skip("cannot mount a file system here:", err)
	}
	defer func() { require.NoError(t, exec.Command("umount", small).Run()) }()
	require.ErrorContains(t, checkSpace(small, minFree), small+" has 2 MB of free space, not 64")

	_, dir, err := child(t, "exit", "TMPDIR="+small)
	require.NoError(t, err)
	require.False(t, strings.HasPrefix(dir, small), dir)

	// A quota or a race with others: the copy fails although there seemed to be space.
	acc, err := serverAccount()
	require.NoError(t, err)
	in, err := find(t.Context(), acc)
	require.NoError(t, err)
	template, err := newRecipe(in).template(t.Context(), acc, cachePlaces(acc))
	require.NoError(t, err)
	script := acc.shell(t.Context(), superviseScript, template, in.postgres, "", small)
	out, err := script.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 2, bytes.Count(out, []byte("\n")), "one problem, one line: %s", out)
	require.Contains(t, string(out), "No space left on device")
	left, err := filepath.Glob(filepath.Join(small, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestUnusedTemplatesAreRemoved(t *testing.T) {
	cache := t.TempDir()
	old := time.Now().Add(-unusedLife - time.Hour)
	for name, at := range map[string]time.Time{"15.1-aaaaaa": old, "16.1-bbbbbb": time.Now(), "16.2-cccccc": old} {
		dir := filepath.Join(cache, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "base"), 0o700))
		require.NoError(t, os.Chtimes(dir, at, at))
	}
	removeUnused(cache, filepath.Join(cache, "16.2-cccccc"))
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(cache, "16.1-bbbbbb"), filepath.Join(cache, "16.2-cccccc")}, left)
}

func TestUserWithoutAName(t *testing.T) {
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("needs root, to become another user")
	}
	const uid = 54321
	dir, err := os.MkdirTemp("", "dsql-user")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o777))
	program, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	path := filepath.Join(dir, "postgres.test")
	require.NoError(t, os.WriteFile(path, program, 0o755))

	installed := installedNSSWrapper()
	for way, library := range map[string]string{"user namespace": "none", "nss_wrapper": installed} {
		t.Run(way, func(t *testing.T) {
			if library == "" {
				t.Skip("nss_wrapper is not installed")
			}
			cmd := exec.Command(path, "-test.run=^$")
			cmd.Dir = "/"
			cmd.Env = append(os.Environ(), ending+"=exit", nssWrapper+"="+library, "HOME="+dir, "XDG_CACHE_HOME="+filepath.Join(dir, way))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			out, err := cmd.CombinedOutput()
			if library == "none" && strings.Contains(string(out), "install nss_wrapper") {
				t.Skip("no user namespaces here; the error says what to do")
			}
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 3, exit.ExitCode(), string(out))
		})
	}
}
