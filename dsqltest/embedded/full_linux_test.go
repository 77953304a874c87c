package embedded

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The disk becomes full before, while or after the archive is downloaded.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	jar := archiveOf(t, map[string][]byte{"bin/postgres": bytes.Repeat([]byte("postgres"), 1<<19), "bin/initdb": nil}) // 4 MB unpacked
	for name, tt := range map[string]struct {
		left int64 // free space, in bytes, from the first request on
		want string
	}{
		"before":      {-1, "cache has 2 MB of free space, not 256"},
		"downloading": {8 << 10, "no space left on device: free disk space or install PostgreSQL 14 or later"},
		"extracting":  {2 << 20, "no space left on device: free disk space or install PostgreSQL 14 or later"},
		"unpacking":   {6 << 20, "no space left on device\ninstall PostgreSQL 14 or later"},
	} {
		t.Run(name, func(t *testing.T) {
			var cache string
			var r *repository
			r, cache = serve(t, jar, checksumOf(jar), func(_ http.ResponseWriter, r *http.Request) bool {
				if filepath.Ext(r.URL.Path) == ".sha256" {
					fill(t, cache, tt.left)
				}
				return false
			})
			require.NoError(t, os.MkdirAll(cache, 0o755))
			size := "size=260m"
			if tt.left < 0 {
				size = "size=2m"
			}
			if err := exec.Command("mount", "-t", "tmpfs", "-o", size+",mode=755", "tmpfs", cache).Run(); err != nil {
				t.Skip("cannot mount a file system here:", err)
			}
			// The library may still have a file open: lazily.
			defer func() { require.NoError(t, exec.Command("umount", "-l", cache).Run()) }()
			_, err := Install(t.Context())
			require.ErrorContains(t, err, tt.want)
			require.True(t, strings.HasPrefix(err.Error(), "dsqltest: "), err)
			require.Equal(t, tt.left >= 0, r.downloads.Load() == 1)
			require.NoError(t, os.RemoveAll(filepath.Join(cache, "filled")))
			requireEmpty(t, cache)
		})
	}
}

// fill leaves so many bytes of free space on a file system.
func fill(t *testing.T, dir string, left int64) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Error(err)
	}
	file, err := os.Create(filepath.Join(dir, "filled"))
	if err != nil {
		t.Error(err)
	}
	defer file.Close()
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-left); err != nil {
		t.Error(err)
	}
}
