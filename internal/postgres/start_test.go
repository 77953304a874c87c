//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoDirectoryForTheDataLeavesNoPipeOpen(t *testing.T) {
	defer func(dirs []string) { systemTemp = dirs }(systemTemp)
	systemTemp = nil
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), strings.Repeat("long/", 30)))
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // collecting an *os.File closes it
	open := func() int {
		entries, err := os.ReadDir("/dev/fd")
		require.NoError(t, err)
		return len(entries)
	}
	before := open()
	_, err := supervise(t.Context(), account{}, installation{}, "", nil)
	require.ErrorContains(t, err, "too long for a socket")
	require.Equal(t, before, open())
}

// A download takes as long as the caller allows; the minute is for the start of the server.
func TestDownloadIsNotLimitedToTheTimeOfAStart(t *testing.T) {
	defer func(dirs []string) { packagedIn, Bring = dirs, nil }(packagedIn)
	packagedIn = nil
	t.Setenv("PATH", t.TempDir())
	t.Setenv("DSQLTEST_POSTGRES", "")
	t.Setenv("DSQLTEST_EMBEDDED_CACHE", t.TempDir())
	offline := errors.New("offline")
	for name, start := range map[string]func() error{
		"shared": func() error { _, err := start(t.Context()); return err },
		"kept":   func() error { _, _, err := StartKept(t.Context(), t.TempDir(), nil, ""); return err },
	} {
		t.Run(name, func(t *testing.T) {
			Bring = func(ctx context.Context) (string, error) {
				_, limited := ctx.Deadline()
				require.False(t, limited)
				return "", offline
			}
			require.ErrorIs(t, start(), offline)
		})
	}
}

func TestEndSessionsSaysWhose(t *testing.T) {
	s, err := Start(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = s.EndSessions(ctx, "mine")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, `dsqltest: ending the sessions of "mine": `)
}
