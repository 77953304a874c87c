//go:build linux || darwin

package postgres

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

var (
	//go:embed template.sh
	templateScript string
	//go:embed setup.sql
	setupSQL string
	//go:embed dialect.sql
	dialectSQL string
	//go:embed postgresql.conf
	serverConf string
)

// recipe is all that a template is made of.
type recipe struct {
	installation
	initdbArgs []string
	conf       string
}

func newRecipe(in installation) recipe {
	r := recipe{
		installation: in,
		initdbArgs: []string{"--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C",
			"--auth=trust", "--username=dsqltest", "--wal-segsize=1"},
		conf: serverConf,
	}
	if in.major >= 18 {
		r.initdbArgs = append(r.initdbArgs, "--no-data-checksums")
		r.conf += "io_method = sync\n" // no worker processes
	}
	return r
}

// name changes with everything that changes the template, so that an old one is
// never taken for a new one.
func (r recipe) name() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", []any{r.postgres, r.build, r.initdbArgs, r.conf, setupSQL, dialectSQL, templateScript})
	return fmt.Sprintf("%s-%.6x", r.version, h.Sum(nil))
}

// template returns the machine's template for the recipe, and makes it when there
// is none.
func (r recipe) template(ctx context.Context, acc account, places []string) (string, error) {
	var unusable []error
	for _, place := range places {
		cache, err := openCache(ctx, acc, place)
		if err != nil {
			unusable = append(unusable, err)
			continue
		}
		defer cache.Close() // unlocks
		return r.templateIn(ctx, acc, cache)
	}
	return "", fmt.Errorf("dsqltest: no place to keep PostgreSQL's template in: %w", errors.Join(unusable...))
}

func (r recipe) templateIn(ctx context.Context, acc account, cache *os.File) (string, error) {
	final := filepath.Join(cache.Name(), r.name())
	if complete(final) {
		return final, nil
	}
	if err := lockFile(ctx, cache); err != nil {
		return "", fmt.Errorf("dsqltest: locking %s: %w", cache.Name(), err)
	}
	if complete(final) { // another process was quicker
		return final, nil
	}

	args := append([]string{cache.Name(), final, r.postgres, r.initdb, r.conf}, r.initdbArgs...)
	script := acc.shell(ctx, templateScript, args...)
	script.Stdin = strings.NewReader(setupSQL + dialectSQL)
	var log strings.Builder
	script.Stderr = &log
	made, err := script.Output()
	if err != nil {
		return "", fmt.Errorf("dsqltest: making a template with %s: %w", r.initdb, withLog(ctx, err, log.String()))
	}
	// Only now, and by this process: a maker that is killed leaves no template.
	if err := os.Rename(strings.TrimSpace(string(made)), final); err != nil {
		return "", fmt.Errorf("dsqltest: keeping the template: %w", err)
	}
	return final, nil
}

// complete reports whether dir is a template. The directory alone does not tell:
// cleaners of temporary files remove old files and leave directories.
func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "PG_VERSION"))
	return err == nil
}

// cachePlaces lists where templates may be kept, best first. Root's own cache
// directory is closed to the account.
func cachePlaces(acc account) []string {
	var places []string
	if dir, err := os.UserCacheDir(); err == nil && acc.credential == nil {
		places = append(places, filepath.Join(dir, "dsqltest"))
	}
	own := fmt.Sprintf("dsqltest-%d", acc.uid)
	return append(places, filepath.Join("/var/tmp", own), filepath.Join("/tmp", own))
}

// openCache opens the directory, made if need be, and checks that nobody but the
// account can put a template there: its programs run with what they find in it.
func openCache(ctx context.Context, acc account, dir string) (*os.File, error) {
	cache, err := openDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		out, mkdirErr := acc.shell(ctx, `mkdir -p -m 700 "$1"`, dir).CombinedOutput()
		if mkdirErr != nil {
			return nil, fmt.Errorf("%w: %s", mkdirErr, strings.TrimSpace(string(out)))
		}
		cache, err = openDir(dir)
	}
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(cache, acc); err != nil {
		cache.Close()
		return nil, err
	}
	return cache, nil
}

func openDir(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
}

func checkPrivate(dir *os.File, acc account) error {
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != acc.uid {
		return fmt.Errorf("%s belongs to user %d, not to user %d: remove it", dir.Name(), owner, acc.uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is open to other users' writing (%v): remove it", dir.Name(), info.Mode())
	}
	parent, err := os.Stat(filepath.Dir(dir.Name()))
	if err != nil {
		return err
	}
	if parent.Mode().Perm()&0o022 != 0 && parent.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("%s is open to other users' writing (%v) and not sticky", filepath.Dir(dir.Name()), parent.Mode())
	}
	return nil
}

// lockFile locks f until it is closed, also by the end of the process.
func lockFile(ctx context.Context, f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// withLog adds what a program said to the error of its end. A program that the
// context ended says "killed": the context's error is the cause.
func withLog(ctx context.Context, err error, log string) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	log = strings.TrimSpace(log)
	if log == "" {
		return err
	}
	return fmt.Errorf("%w\n%s", err, log)
}
