//go:build unix

package connstring

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServiceFileThatIsAPipeIsNotRead(t *testing.T) {
	home := t.TempDir()
	for _, pipe := range []string{filepath.Join(home, "pipe"), filepath.Join(home, ".pg_service.conf")} {
		require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	}
	t.Setenv("HOME", home)
	t.Setenv("PGSERVICE", "x")
	for _, file := range []string{filepath.Join(home, "pipe"), ""} {
		t.Setenv("PGSERVICEFILE", file)
		_, err := Parse("/", "dsql", "")
		require.ErrorContains(t, err, "must be a regular file: unset PGSERVICE")
	}
	t.Setenv("PGSERVICE", "")
	_, err := Parse("/", "dsql", "")
	require.NoError(t, err)
}

func TestServiceChangesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "service")
	require.NoError(t, os.WriteFile(file, []byte("[s]\npool_min_conns=7\npool_max_conns=x\npool_ping_timeout=9s\nstatement_cache_capacity=1\ndefault_query_exec_mode=exec\npassword=hunter2\n"), 0o600))
	want, err := Parse("/", "dsql", "")
	require.NoError(t, err)
	t.Setenv("PGSERVICE", "s")
	t.Setenv("PGSERVICEFILE", file)
	got, err := Parse("/", "dsql", "")
	require.NoError(t, err)
	require.Equal(t, want.MinConns, got.MinConns)
	require.Equal(t, want.MaxConns, got.MaxConns)
	require.Equal(t, want.PingTimeout, got.PingTimeout)
	require.Equal(t, want.ConnConfig.StatementCacheCapacity, got.ConnConfig.StatementCacheCapacity)
	require.Equal(t, want.ConnConfig.DefaultQueryExecMode, got.ConnConfig.DefaultQueryExecMode)
	require.Empty(t, got.ConnConfig.Password)
}
