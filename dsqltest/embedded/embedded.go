// Package embedded brings PostgreSQL to machines that have none. Import it for its side effect, in a
// test or a program that uses dsqltest:
//
//	import _ "github.com/go-dsql/dsql/dsqltest/embedded"
//
// When the first local cluster starts and dsqltest finds no PostgreSQL server, the binaries of
// github.com/zonkyio/embedded-postgres-binaries are downloaded from Maven Central, 10 to 30 MB, as
// github.com/fergusstrange/embedded-postgres does. They are used only if they match their SHA-256
// checksum. They stay in the user's cache directory (root's are under /var/tmp), where dsqltest
// finds them from then on, imported or not. A PostgreSQL that is installed on the machine has
// precedence.
//
// The library brings lib/pq along, which registers the database/sql driver "postgres", and which
// this package does not connect with.
//
// There are binaries for Linux, Alpine included, and macOS, each on amd64 and arm64.
//
// DSQLTEST_EMBEDDED_REPOSITORY is the URL of another Maven repository, such as a company's mirror.
// It may contain a user and a password, which are not shown. HTTPS_PROXY and NO_PROXY apply.
// DSQLTEST_EMBEDDED_CACHE is the directory to keep PostgreSQL in; tests that run as root need one
// that the user postgres or nobody can enter.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/go-dsql/dsql/internal/postgres"
)

// version is of the major version that DSQL is compatible with.
const version = embeddedpostgres.V16

const (
	variable     = "DSQLTEST_EMBEDDED_REPOSITORY"
	mavenCentral = "https://repo1.maven.org/maven2"
)

const advice = "install PostgreSQL 14 or later, or set " + variable + " to a Maven repository that has it"

func init() { postgres.Bring = Install }

// Install downloads PostgreSQL into the user's cache if it is not there, and returns the directory
// of its programs. Processes that call it at the same time download it once. There is no need to
// call it: the first cluster does so if it finds no PostgreSQL.
func Install(ctx context.Context) (dir string, err error) {
	platform, err := platformOf(runtime.GOOS, runtime.GOARCH, isAlpine())
	if err != nil {
		return "", err
	}
	s := source{
		repository: cmp.Or(os.Getenv(variable), mavenCentral),
		artifact:   "embedded-postgres-binaries-" + platform,
		version:    string(version),
		progress:   os.Stderr,
		stalled:    30 * time.Second,
	}
	return postgres.Install(ctx, s.version+"-"+platform, s.unpack)
}

// platformOf returns the name of a platform in the repository.
func platformOf(system, arch string, alpine bool) (string, error) {
	known := (system == "linux" || system == "darwin") && (arch == "amd64" || arch == "arm64")
	if !known {
		return "", fmt.Errorf("dsqltest: there is no PostgreSQL to download for %s/%s: install PostgreSQL 14 or later, or set DSQLTEST_POSTGRES to the directory of its postgres and initdb", system, arch)
	}
	if arch == "arm64" {
		arch = "arm64v8"
	}
	if alpine {
		arch += "-alpine"
	}
	return system + "-" + arch, nil
}

func isAlpine() bool {
	_, err := os.Stat("/etc/alpine-release")
	return err == nil
}

// source is where an archive of PostgreSQL's programs comes from.
type source struct {
	repository        string // URL
	artifact, version string
	progress          io.Writer
	stalled           time.Duration // how long a download may receive nothing
}

// unpack downloads the archive and unpacks it into a directory postgresql in dir.
func (s source) unpack(ctx context.Context, dir string) error {
	archive := filepath.Join(dir, s.artifact+"-"+s.version+".txz") // where the library looks for it
	if err := s.fetch(ctx, archive); err != nil {
		return err
	}
	if err := s.extract(dir); err != nil {
		return fmt.Errorf("dsqltest: unpacking %s in %s: %w\n%s", filepath.Base(archive), dir, err, advice)
	}
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(filepath.Join(dir, "postgresql", "bin", program)); err != nil {
			return fmt.Errorf("dsqltest: %s has no PostgreSQL in it: %w\n%s", filepath.Base(archive), err, advice)
		}
	}
	return os.Remove(archive)
}

// nowhere is neither the path of a file nor a URL.
const nowhere = "\x00"

// extract lets the library unpack the archive in dir. The only way to make it do so is to start a
// server; it fails once all is unpacked, since that server can have no data directory there.
func (s source) extract(dir string) error {
	runtime := filepath.Join(dir, "runtime")
	config := embeddedpostgres.DefaultConfig().
		Version(embeddedpostgres.PostgresVersion(s.version)).
		BinaryRepositoryURL(nowhere). // not needed: the archive is there
		CachePath(dir).
		BinariesPath(filepath.Join(dir, "postgresql")).
		RuntimePath(runtime).
		DataPath(nowhere).
		Port(0).
		Logger(io.Discard)
	err := embeddedpostgres.NewDatabase(config).Start()
	if err == nil {
		return errors.New("the library started a server")
	}
	if !strings.HasPrefix(err.Error(), "unable to clean up data directory "+nowhere) {
		return err
	}
	return os.Remove(runtime)
}
