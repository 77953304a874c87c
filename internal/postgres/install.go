//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// An installation has PostgreSQL's programs, and a manifest that lists all files with their sizes
// and is written last.
const (
	manifest = "dsqltest-files"
	programs = "postgresql/bin"
)

// installPlaces lists the directories that Install may use, best first. They belong to the user of
// this process, and the account can enter them: root's own cache directory is closed to it.
func installPlaces(acc account) []string {
	if given := os.Getenv("DSQLTEST_EMBEDDED_CACHE"); given != "" {
		return []string{given}
	}
	places := cachePlaces(account{uid: uint32(os.Geteuid()), credential: acc.credential})
	for i := range places {
		places[i] = filepath.Join(places[i], "embedded")
	}
	return places
}

// Install returns the directory of the programs of the PostgreSQL of that name in the user's cache.
// If it is not there or damaged, unpack must put it into an empty directory, the programs into
// postgresql/bin.
// Processes do that one at a time, and what is not complete is never used.
func Install(ctx context.Context, name string, unpack func(ctx context.Context, dir string) error) (string, error) {
	acc, err := serverAccount()
	if err != nil {
		return "", err
	}
	var unusable []error
	for _, place := range installPlaces(acc) {
		place, err := filepath.Abs(place)
		if err != nil {
			return "", fmt.Errorf("dsqltest: %w", err)
		}
		dir, err := openPlace(place)
		if err != nil {
			unusable = append(unusable, err)
			continue
		}
		defer dir.Close() // unlocks
		final := filepath.Join(place, name)
		if checkInstalled(final) == nil {
			return filepath.Join(final, programs), nil
		}
		if err := checkSpace(place, installSpace); err != nil {
			unusable = append(unusable, err)
			continue
		}
		if err := lockFile(ctx, dir); err != nil {
			return "", fmt.Errorf("dsqltest: waiting for another process to install PostgreSQL in %s: %w", place, err)
		}
		if err := installIn(ctx, acc, place, name, unpack); err != nil {
			return "", err
		}
		return filepath.Join(final, programs), nil
	}
	return "", fmt.Errorf("dsqltest: no directory to install PostgreSQL in: set DSQLTEST_EMBEDDED_CACHE to one with %d MB of free space that you can write to: %w", installSpace>>20, errors.Join(unusable...))
}

// installIn installs where the caller holds the lock.
func installIn(ctx context.Context, acc account, place, name string, unpack func(context.Context, string) error) error {
	final := filepath.Join(place, name)
	if checkInstalled(final) == nil { // another process was faster
		return nil
	}
	left, _ := filepath.Glob(filepath.Join(place, "new-*")) // by killed processes
	for _, dir := range append(left, final) {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("dsqltest: removing what is damaged: %w", err)
		}
	}
	dir, err := os.MkdirTemp(place, "new-")
	if err != nil {
		return fmt.Errorf("dsqltest: installing PostgreSQL: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := unpack(ctx, dir); err != nil {
		return err
	}
	if err := writeManifest(dir); err != nil {
		return fmt.Errorf("dsqltest: installing PostgreSQL in %s: %w", place, err)
	}
	if _, err := inspect(ctx, acc, filepath.Join(dir, programs)); err != nil {
		return fmt.Errorf("dsqltest: the downloaded PostgreSQL does not run on this machine: %w\n%s", err, howToInstall)
	}
	if err := os.Rename(dir, final); err != nil {
		return fmt.Errorf("dsqltest: installing PostgreSQL: %w", err)
	}
	return nil
}

// openPlace opens a directory that only the user of this process can write to and everybody can
// enter, and creates it if needed.
func openPlace(place string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(place)), 0o755); err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Dir(place), place} {
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			err = os.Chmod(dir, 0o755) // whatever the umask
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	if err := checkOwn(place); err != nil {
		return nil, err
	}
	return openDir(place)
}

// checkOwn checks that place belongs to the user of this process and that no other can write to it
// or replace it: its programs are run.
func checkOwn(place string) error {
	dir, err := openDir(place)
	if err != nil {
		return err
	}
	defer dir.Close()
	self := uint32(os.Geteuid())
	if err := checkPrivate(dir, account{uid: self}); err != nil {
		return err
	}
	above, err := os.Stat(filepath.Dir(place))
	if err != nil {
		return err
	}
	if owner := above.Sys().(*syscall.Stat_t).Uid; owner != self && owner != 0 {
		return fmt.Errorf("%s belongs to user %d, not to user %d: remove it", filepath.Dir(place), owner, self)
	}
	return nil
}

// writeManifest lets every user read the files in dir, and lists them.
func writeManifest(dir string) error {
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if entry.IsDir() || info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		if !entry.IsDir() {
			name, _ := filepath.Rel(dir, path) // path begins with dir
			fmt.Fprintf(&list, "%d %s\n", info.Size(), name)
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifest), []byte(list.String()), 0o644)
}

// checkInstalled checks that every file of an installation is there and whole.
func checkInstalled(dir string) error {
	list, err := os.ReadFile(filepath.Join(dir, manifest))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		var size int64
		size64, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := fmt.Sscan(size64, &size); err != nil {
			return fmt.Errorf("%s is damaged: remove it", dir)
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%s is damaged: remove it: %w", dir, err)
		}
		if info.Size() != size {
			return fmt.Errorf("%s is damaged: remove it: %s has %d bytes, not %d", dir, name, info.Size(), size)
		}
	}
	return nil
}

// installed returns the newest PostgreSQL in the places, or why each in them is not usable.
func installed(ctx context.Context, acc account, places []string) (newest installation, problems []string) {
	for _, place := range places {
		dirs, _ := filepath.Glob(filepath.Join(place, "*", programs))
		if len(dirs) == 0 {
			problems = append(problems, place+": nothing")
		}
		for _, dir := range dirs {
			root := strings.TrimSuffix(dir, "/"+programs)
			if strings.HasPrefix(filepath.Base(root), "new-") {
				continue
			}
			err := errors.Join(checkOwn(place), checkInstalled(root))
			var in installation
			if err == nil {
				in, err = inspect(ctx, acc, dir)
			}
			if err != nil {
				problems = append(problems, err.Error())
			} else if in.major > newest.major {
				newest = in
			}
		}
	}
	return newest, problems
}
