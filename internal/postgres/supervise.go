//go:build linux || darwin

package postgres

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed supervise.sh
var superviseScript string

const (
	startTimeout = time.Minute
	minFree      = 64 << 20  // bytes that a template or a data directory needs, and some
	installSpace = 256 << 20 // bytes that installing PostgreSQL needs, and some
)

// start starts a new server.
func start(ctx context.Context) (*Server, error) {
	acc, err := serverAccount()
	if err != nil {
		return nil, err
	}
	in, err := find(ctx, acc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout) // a download in find may take longer
	defer cancel()
	template, err := newRecipe(in).template(ctx, acc, cachePlaces(acc))
	if err != nil {
		return nil, err
	}
	return supervise(ctx, acc, in, template, nil)
}

// supervise starts a shell that runs the server and outlives this process just long enough to clean
// up after it, on a copy of the template or on kept data.
func supervise(ctx context.Context, acc account, in installation, template string, kept *kept) (*Server, error) {
	s := &Server{version: in.version, major: in.major, turn: make(chan struct{}, 1)}
	data := ""
	if kept != nil {
		data = kept.data()
		s.data, s.files = data, kept.dir
	}
	parents, err := dataParents()
	if err != nil {
		return nil, err
	}
	if s.config, err = s.superuserConfig(); err != nil {
		return nil, err
	}
	stdin, lifeline, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("dsqltest: %w", err)
	}
	defer stdin.Close()
	report, stdout, err := os.Pipe()
	if err != nil {
		lifeline.Close()
		return nil, fmt.Errorf("dsqltest: %w", err)
	}
	defer report.Close()
	s.lifeline = lifeline

	args := append([]string{template, in.postgres, data}, parents...)
	script := acc.shell(context.WithoutCancel(ctx), superviseScript, args...)
	script.Stdin, script.Stdout, script.Stderr = stdin, stdout, stdout
	if kept != nil {
		script.ExtraFiles = []*os.File{kept.lock}
	}
	err = script.Start()
	stdout.Close()
	if err != nil {
		lifeline.Close()
		return nil, fmt.Errorf("dsqltest: starting PostgreSQL %s: %w", in.version, err)
	}
	s.ended = sync.OnceValue(script.Wait)
	if err = s.awaitReady(ctx, report); err != nil {
		lifeline.Close()
		go s.ended()
		return nil, fmt.Errorf("dsqltest: PostgreSQL %s did not start: %w", in.version, err)
	}
	return s, nil
}

// awaitReady returns when the server accepts connections, when the supervisor has exited because
// the server has, or when the context is done.
func (s *Server) awaitReady(ctx context.Context, report *os.File) error {
	var output []byte
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		if err := report.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			return err
		}
		n, err := report.Read(buf)
		output = append(output, buf[:n]...)
		dir, rest, ok := strings.Cut(string(output), "\n")
		if ok && filepath.IsAbs(dir) {
			s.dir, output = dir, []byte(rest)
			s.data, s.files = cmp.Or(s.data, dir), cmp.Or(s.files, dir)
		}
		if err == io.EOF {
			return withLog(ctx, errors.New("it exited"), string(output))
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if s.dir != "" && s.ready() {
			// The first session in a database creates a cache of the catalog, which is copied too.
			_, err := s.administer(ctx, "SELECT 1")
			return err
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.data, "log"))
	return withLog(ctx, ctx.Err(), string(log))
}

// ready reports whether the server is ready, by the file that pg_ctl reads.
func (s *Server) ready() bool {
	status, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	return err == nil && strings.Contains(string(status), "ready")
}

// systemTemp are the parents of the data directory that do not depend on the environment.
var systemTemp = []string{"/tmp", "/var/tmp"}

// dataParents lists the possible parents of the data directory, best first. The script uses the
// first that the account can write to. On macOS the path of a socket may have 103 bytes.
func dataParents() ([]string, error) {
	candidates := append([]string{os.TempDir()}, systemTemp...)
	if os.Getenv("TMPDIR") == "" && freeBytes("/dev/shm") >= 1<<30 {
		candidates = append([]string{"/dev/shm"}, candidates...)
	}
	var parents []string
	var unusable []error
	for _, dir := range candidates {
		dir, err := filepath.Abs(dir)
		switch {
		case err != nil:
		case len(dir)+len("/dsqltest-XXXXXX/.s.PGSQL.5432") > 103:
			err = fmt.Errorf("the path %s is too long for a socket", dir)
		default:
			err = checkSpace(dir, minFree)
		}
		if err != nil {
			unusable = append(unusable, err)
			continue
		}
		parents = append(parents, dir)
	}
	if len(parents) == 0 {
		return nil, fmt.Errorf("dsqltest: no directory for PostgreSQL's files: set TMPDIR to one with %d MB of free space: %w", minFree>>20, errors.Join(unusable...))
	}
	return parents, nil
}

// checkSpace returns an error if a directory's file system has fewer bytes free than needed.
func checkSpace(dir string, needed uint64) error {
	if free := freeBytes(dir); free < needed {
		return fmt.Errorf("%s has %d MB of free space, not %d", dir, free>>20, needed>>20)
	}
	return nil
}

func freeBytes(dir string) uint64 {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}
