//go:build unix

package dsql_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A bare container has no environment, no home and no socket directories, and
// pgx then falls back on localhost. The program runs in such a place: with an
// empty environment, and, where the tests run as root, in an empty root.
func TestBareContainerTriesNoOtherHost(t *testing.T) {
	root := t.TempDir()
	program := filepath.Join(root, "bare")
	build := exec.Command("go", "build", "-o", program, "./testdata/bare")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	cmd := exec.Command(program, host)
	cmd.Env = []string{}
	cmd.Dir = "/"
	isRoot := os.Geteuid() == 0
	if isRoot {
		cmd.Path, cmd.Args[0] = "/bare", "/bare"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	}
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	var tried []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "exists:") {
			require.False(t, isRoot, "the root is not empty: %s", line)
			continue
		}
		tried = append(tried, strings.TrimSpace(line))
	}
	require.Equal(t, []string{"lookup: " + host, "dial: tcp 192.0.2.1:5432", "dial: tcp 192.0.2.2:5432"}, tried)
}
