//go:build linux || darwin

package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopTimeout bounds a shutdown that writes everything.
const stopTimeout = time.Minute

// kept is a directory whose data outlives the process.
type kept struct {
	dir  string
	lock *os.File
}

func (k *kept) data() string { return filepath.Join(k.dir, "postgres") }

// StartKept starts a server of its own whose data stays in dir, which is durable: what was
// committed is there after any end of the process, of the server or of the machine. lock is an open
// file, which the server keeps open as long as it runs. made is what StartKept returned when it
// made the data; if it is empty, new data takes the place of what is there. Call [Server.Stop].
func StartKept(ctx context.Context, dir string, lock *os.File, made string) (*Server, string, error) {
	acc, err := serverAccount()
	if err != nil {
		return nil, "", err
	}
	in, err := find(ctx, acc)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout) // a download in find may take longer
	defer cancel()
	r := newRecipe(in)
	k := &kept{dir, lock}
	if made == "" {
		err = k.create(ctx, acc, r)
	} else {
		err = k.check(acc, r, made)
	}
	if err != nil {
		return nil, "", err
	}
	// The settings may be newer than the data.
	if err := acc.shell(ctx, `printf '%s' "$2" >"$1/postgresql.conf"`, k.data(), r.conf).Run(); err != nil {
		return nil, "", fmt.Errorf("dsqltest: writing the settings of PostgreSQL in %s: %w", k.data(), err)
	}
	s, err := supervise(ctx, acc, in, "", k)
	if err != nil {
		return nil, "", fmt.Errorf("%w\nthe data is in %s, which is kept", err, k.data())
	}
	return s, r.contents(), nil
}

// contents changes with everything that a cluster's data consists of. Minor versions of PostgreSQL
// have the same.
func (r recipe) contents() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", []any{r.initdbArgs, templateSQL()})
	return fmt.Sprintf("%d-%.6x", r.major, h.Sum(nil))
}

// keepScript copies the template so that it is whole or not there, even after a crash of the
// machine.
const keepScript = `umask 077
rm -rf "$2" "$2.new" && cp -R "$1" "$2.new" && "$3" --sync-only -D "$2.new" >/dev/null && mv "$2.new" "$2"`

func (k *kept) create(ctx context.Context, acc account, r recipe) error {
	if acc.credential != nil {
		if err := os.Chown(k.dir, int(acc.credential.Uid), int(acc.credential.Gid)); err != nil {
			return fmt.Errorf("dsqltest: changing the owner of the directory to the user %s, which PostgreSQL runs as: %w", acc.name, err)
		}
	}
	template, err := r.template(ctx, acc, cachePlaces(acc))
	if err != nil {
		return err
	}
	if out, err := acc.shell(ctx, keepScript, template, k.data(), r.initdb).CombinedOutput(); err != nil {
		return fmt.Errorf("dsqltest: the user %s cannot create PostgreSQL's data in %s, which must be in directories that this user may enter: %w",
			acc.name, k.dir, withLog(ctx, err, string(out)))
	}
	return nil
}

// check returns an error if the data is not what this process would make.
func (k *kept) check(acc account, r recipe, made string) error {
	major, _, _ := strings.Cut(made, "-")
	info, err := os.Stat(filepath.Join(k.data(), "PG_VERSION"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("dsqltest: the directory %s is damaged: PostgreSQL's data in %s is missing: restore it, or use a new directory", k.dir, k.data())
	case err != nil:
		return fmt.Errorf("dsqltest: %w", err)
	case info.Sys().(*syscall.Stat_t).Uid != acc.uid:
		return fmt.Errorf("dsqltest: the data in %s belongs to user %d, and PostgreSQL would run as user %d: run the command as the user who made the directory, or use a new one",
			k.dir, info.Sys().(*syscall.Stat_t).Uid, acc.uid)
	case major != fmt.Sprint(r.major):
		return fmt.Errorf("dsqltest: the data in %s was made by PostgreSQL %s, and this is %s (%s): set DSQLTEST_POSTGRES to the directory of PostgreSQL %s's programs, or use a new directory",
			k.dir, cmp.Or(major, "of unknown version"), r.version, r.postgres, major)
	case made != r.contents():
		return fmt.Errorf("dsqltest: the data in %s was made by another version of dsql, whose system catalog was not the same: use that version, or a new directory", k.dir)
	}
	return nil
}

// Stop ends all sessions, has the server write everything, and waits for its end.
func (s *Server) Stop() error {
	s.lifeline.Close()
	done := make(chan struct{})
	go func() { _ = s.ended(); close(done) }() // its status is a shell's, and says nothing
	select {
	case <-done:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("dsqltest: PostgreSQL did not stop within %v; its log is %s", stopTimeout, filepath.Join(s.data, "log"))
	}
}
