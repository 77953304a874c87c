//go:build linux || darwin

package postgres

import (
	"context"
	"crypto/sha256"
	"embed"
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
	//go:embed *.sql
	sqlFiles embed.FS
	//go:embed postgresql.conf
	serverConf string
)

// templateSQL returns what template1 is made of, which every cluster's database is a copy of.
func templateSQL() string {
	var b strings.Builder
	for _, name := range []string{"setup", "catalog", "jobs", "roles", "limits", "conflicts", "faults"} {
		sql, _ := sqlFiles.ReadFile(name + ".sql") // embedded
		b.Write(sql)
		b.WriteByte('\n')
	}
	return b.String()
}

// unusedLife is how long an unused template is kept. It is made in a second or two.
const unusedLife = 14 * 24 * time.Hour

// recipe is everything that determines a template.
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

// name changes with everything that changes the template, so that an outdated one is never used.
func (r recipe) name() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", []any{r.postgres, r.build, r.initdbArgs, r.conf, templateSQL(), templateScript})
	return fmt.Sprintf("%s-%.6x", r.version, h.Sum(nil))
}

// template returns the machine's template for the recipe and creates it if there is none.
func (r recipe) template(ctx context.Context, acc account, places []string) (string, error) {
	var unusable []error
	for _, place := range places {
		cache, err := openCache(ctx, acc, place)
		if err != nil {
			unusable = append(unusable, err)
			continue
		}
		defer cache.Close() // unlocks
		if err := checkSpace(place, minFree); err != nil && !complete(filepath.Join(place, r.name())) {
			unusable = append(unusable, err)
			continue
		}
		return r.templateIn(ctx, acc, cache)
	}
	return "", fmt.Errorf("dsqltest: no directory for PostgreSQL's template: %w", errors.Join(unusable...))
}

func (r recipe) templateIn(ctx context.Context, acc account, cache *os.File) (string, error) {
	final := filepath.Join(cache.Name(), r.name())
	if complete(final) {
		now := time.Now()
		_ = os.Chtimes(final, now, now) // see removeUnused
		return final, nil
	}
	if err := lockFile(ctx, cache); err != nil {
		return "", fmt.Errorf("dsqltest: locking %s: %w", cache.Name(), err)
	}
	if complete(final) { // another process was faster
		return final, nil
	}

	args := append([]string{cache.Name(), final, r.postgres, r.initdb, r.conf}, r.initdbArgs...)
	script := acc.shell(ctx, templateScript, args...)
	script.Stdin = strings.NewReader(templateSQL())
	var log strings.Builder
	script.Stderr = &log
	advice, err := nameUser(script, acc, cache.Name())
	if err != nil {
		return "", fmt.Errorf("dsqltest: %w", err)
	}
	made, err := script.Output()
	if err != nil && advice != nil {
		return "", fmt.Errorf("dsqltest: creating a template with %s: %w (%w)", r.initdb, advice, err)
	}
	if err != nil {
		return "", fmt.Errorf("dsqltest: creating a template with %s: %w", r.initdb, withLog(ctx, err, log.String()))
	}
	// Only now, and by this process: a killed script leaves no template.
	if err := os.Rename(strings.TrimSpace(string(made)), final); err != nil {
		return "", fmt.Errorf("dsqltest: renaming the template: %w", err)
	}
	removeUnused(cache.Name(), final)
	return final, nil
}

// removeUnused removes other templates that no process has started from for a while. An error is
// left to the next time.
func removeUnused(cache, final string) {
	others, _ := filepath.Glob(filepath.Join(cache, "*-*"))
	for _, dir := range others {
		info, err := os.Stat(dir)
		if err == nil && dir != final && time.Since(info.ModTime()) > unusedLife {
			_ = os.RemoveAll(dir)
		}
	}
}

// complete reports whether dir is a template. Its existence does not suffice: cleaners of temporary
// files remove old files and leave directories.
func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "PG_VERSION"))
	return err == nil
}

// cachePlaces lists the directories that templates may be kept in, best first. The account cannot
// enter root's own cache directory.
func cachePlaces(acc account) []string {
	var places []string
	if dir, err := os.UserCacheDir(); err == nil && acc.credential == nil {
		places = append(places, filepath.Join(dir, "dsqltest"))
	}
	own := fmt.Sprintf("dsqltest-%d", acc.uid)
	return append(places, filepath.Join("/var/tmp", own), filepath.Join("/tmp", own))
}

// openCache opens the directory, creates it if needed, and checks that only the account can write
// to it: PostgreSQL runs with what it finds there.
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
		return fmt.Errorf("%s is writable by other users (%v): remove it", dir.Name(), info.Mode())
	}
	parent, err := os.Stat(filepath.Dir(dir.Name()))
	if err != nil {
		return err
	}
	if parent.Mode().Perm()&0o022 != 0 && parent.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("%s is writable by other users (%v) and not sticky", filepath.Dir(dir.Name()), parent.Mode())
	}
	return nil
}

// lockFile locks f until it is closed, at the latest by the end of the process.
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

// withLog adds a program's output to the error that it ended with. A program that was killed
// because the context is done reports "killed": the context's error is the cause.
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
