//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const oldestMajor = 14

// packagedIn lists where packages install PostgreSQL's programs. Where a pattern matches several
// versions, the newest is used.
var packagedIn = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian
	"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew
	"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
	"/usr/pgsql-*/bin",                                   // RPMs of the PostgreSQL project
	"/usr/libexec/postgresql*",                           // Alpine
}

const howToInstall = `install PostgreSQL 14 or later, or set DSQLTEST_POSTGRES to the directory of its postgres and initdb:
  Debian, Ubuntu  apt-get install postgresql
  Fedora          dnf install postgresql-server
  Alpine          apk add postgresql16
  Homebrew        brew install postgresql@17
or let the tests download it once, import _ "github.com/go-dsql/dsql/dsqltest/embedded"`

// installation is a PostgreSQL installation on this machine.
type installation struct {
	postgres, initdb string // paths without symbolic links
	version          string // such as "16.4"
	major            int
	build            string // the whole output of postgres --version
}

// Locate returns the version and the path of the PostgreSQL that Start would run. The error says
// where it looked and how to install one.
func Locate(ctx context.Context) (string, error) {
	acc, err := serverAccount()
	if err != nil {
		return "", err
	}
	in, err := findIn(ctx, acc, packagedIn, installPlaces(acc))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("PostgreSQL %s, %s", in.version, in.postgres), nil
}

// IgnorePackages makes this process not look where packages install PostgreSQL, for tests of what
// happens on a machine without it.
func IgnorePackages() { packagedIn = nil }

// find returns the PostgreSQL to run, and brings one if there is none and the program can.
func find(ctx context.Context, acc account) (installation, error) {
	in, err := findIn(ctx, acc, packagedIn, installPlaces(acc))
	if err == nil || Bring == nil || os.Getenv("DSQLTEST_POSTGRES") != "" {
		return in, err
	}
	dir, err := Bring(ctx)
	if err != nil {
		return in, err
	}
	return inspect(ctx, acc, dir)
}

// findIn returns the PostgreSQL that DSQLTEST_POSTGRES names. Without it, findIn returns the first
// of these that there is: the one on PATH, the newest match of the first pattern that matches any,
// the newest that Install left in the places.
func findIn(ctx context.Context, acc account, patterns, places []string) (installation, error) {
	if given := os.Getenv("DSQLTEST_POSTGRES"); given != "" {
		in, err := inspect(ctx, acc, given)
		if err != nil {
			return in, fmt.Errorf("dsqltest: DSQLTEST_POSTGRES is %q: must be the directory of postgres and initdb or the path of postgres: %w", given, err)
		}
		return in, nil
	}

	looked := []string{"PATH: no postgres"}
	if path, err := exec.LookPath("postgres"); err == nil {
		in, err := inspect(ctx, acc, path)
		if err == nil {
			return in, nil
		}
		looked[0] = "PATH: " + err.Error()
	}
	for _, pattern := range patterns {
		var newest installation
		paths, _ := filepath.Glob(pattern) // fails on a malformed pattern only
		for _, path := range paths {
			in, err := inspect(ctx, acc, path)
			if err != nil {
				looked = append(looked, err.Error())
			} else if in.major > newest.major {
				newest = in
			}
		}
		if newest.major > 0 {
			return newest, nil
		}
		if len(paths) == 0 {
			looked = append(looked, pattern+": nothing")
		}
	}
	newest, problems := installed(ctx, acc, places)
	if newest.major > 0 {
		return newest, nil
	}
	looked = append(looked, problems...)
	if err := ctx.Err(); err != nil {
		return installation{}, fmt.Errorf("dsqltest: looking for PostgreSQL: %w", err)
	}
	return installation{}, fmt.Errorf("dsqltest: found no PostgreSQL to run; looked in\n  %s\n%s", strings.Join(looked, "\n  "), howToInstall)
}

// inspect checks that path, a directory or a postgres program, is an installation that the account
// can run.
func inspect(ctx context.Context, acc account, path string) (installation, error) {
	var in installation
	path, err := filepath.Abs(path)
	if err != nil {
		return in, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return in, err
	}
	if info.IsDir() {
		path = filepath.Join(path, "postgres")
	}
	// initdb is in the directory of the program, not of a link to it.
	if in.postgres, err = filepath.EvalSymlinks(path); err != nil {
		return in, err
	}
	in.initdb = filepath.Join(filepath.Dir(in.postgres), "initdb")
	if _, err := os.Stat(in.initdb); err != nil {
		return in, fmt.Errorf("no initdb in the directory of %s: %w", in.postgres, err)
	}
	out, err := acc.command(ctx, in.postgres, "--version").Output()
	if errors.Is(err, fs.ErrPermission) {
		return in, fmt.Errorf("the user %s may not run %s: it and each directory above it must be accessible to that user: %w", acc.name, in.postgres, err)
	}
	if err != nil {
		return in, fmt.Errorf("%s --version: %w", in.postgres, err)
	}
	in.build = strings.TrimSpace(string(out))
	if in.version, in.major, err = parseVersion(in.build); err != nil {
		return in, fmt.Errorf("%s --version: %w", in.postgres, err)
	}
	if in.major < oldestMajor {
		return in, fmt.Errorf("%s is PostgreSQL %s: must be %d or later", in.postgres, in.version, oldestMajor)
	}
	return in, nil
}

// parseVersion parses "postgres (PostgreSQL) 16.4 (Debian 16.4-1)", and versions like 18beta1.
func parseVersion(build string) (version string, major int, err error) {
	_, after, _ := strings.Cut(build, ") ")
	version, _, _ = strings.Cut(after, " ")
	digits := strings.TrimRight(version, ".")
	if end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = version[:end]
	}
	if major, err = strconv.Atoi(digits); err != nil {
		return "", 0, fmt.Errorf("%q is not a version of PostgreSQL", build)
	}
	return version, major, nil
}
