//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// unpackFake unpacks a fake PostgreSQL.
func unpackFake(version string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		bin := filepath.Join(dir, programs)
		script := []byte("#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n")
		return errors.Join(os.MkdirAll(bin, 0o700), os.WriteFile(filepath.Join(bin, "postgres"), script, 0o700), os.WriteFile(filepath.Join(bin, "initdb"), script, 0o700))
	}
}

// installHere makes Install use a directory of the test.
func installHere(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "dsqltest-install")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	place := filepath.Join(dir, "above", "place")
	t.Setenv("DSQLTEST_EMBEDDED_CACHE", place)
	return place
}

func TestInstalledIsFoundByOthers(t *testing.T) {
	place := installHere(t)
	acc, err := serverAccount()
	require.NoError(t, err)
	t.Setenv("PATH", t.TempDir())
	t.Setenv("DSQLTEST_POSTGRES", "")
	old := syscall.Umask(0o077) // the server's user can enter nevertheless
	_, err = Install(t.Context(), "old", unpackFake("15.1"))
	syscall.Umask(old)
	require.NoError(t, err)
	dir, err := Install(t.Context(), "new", unpackFake("17.2"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(place, "new/postgresql/bin"), dir)

	in, err := findIn(t.Context(), acc, nil, installPlaces(acc))
	require.NoError(t, err)
	require.Equal(t, "17.2", in.version, "the newest")
	require.NoError(t, os.Truncate(in.postgres, 3))
	in, err = findIn(t.Context(), acc, nil, installPlaces(acc))
	require.NoError(t, err)
	require.Equal(t, "15.1", in.version, "what is damaged is not used")
	require.NoError(t, os.Remove(in.initdb))
	_, err = findIn(t.Context(), acc, nil, installPlaces(acc))
	require.ErrorContains(t, err, filepath.Join(place, "old")+" is damaged: remove it")
	require.ErrorContains(t, err, "has 3 bytes, not")
}

func TestInstallsOfManyUnpackOnce(t *testing.T) {
	installHere(t)
	var unpacked atomic.Int32
	var wait sync.WaitGroup
	for range 6 { // each locks a file of its own, as processes do
		wait.Go(func() {
			_, err := Install(t.Context(), "one", func(ctx context.Context, dir string) error {
				unpacked.Add(1)
				return unpackFake("16.1")(ctx, dir)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	require.EqualValues(t, 1, unpacked.Load())
}

func TestPlaceThatAnotherUserControlsIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory to another user")
	}
	place := installHere(t)
	above := filepath.Dir(place)
	require.NoError(t, os.MkdirAll(above, 0o755))
	require.NoError(t, os.Chown(above, 12345, -1))
	_, err := Install(t.Context(), "x", unpackFake("16.1"))
	require.ErrorContains(t, err, above+" belongs to user 12345, not to user 0: remove it")

	// Files from before the installation are not used either.
	acc, err := serverAccount()
	require.NoError(t, err)
	require.NoError(t, os.Chown(above, 0, -1))
	_, err = Install(t.Context(), "x", unpackFake("16.1"))
	require.NoError(t, err)
	require.NoError(t, os.Chown(place, 12345, -1))
	in, problems := installed(t.Context(), acc, []string{place})
	require.Zero(t, in.major)
	require.Contains(t, problems[0], "belongs to user 12345")
}
