package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/keep"
)

var serveCommand = &command{
	name:    "serve",
	args:    "[FLAGS] [--exec COMMAND...]",
	summary: "run a local cluster for programs in any language",
	about: `
Runs a local cluster that behaves like Aurora DSQL as far as a client sees (see docs/testing.md),
until it is interrupted. It prints what programs need in their environment: unchanged, they connect
with their language's PostgreSQL driver and sign tokens with the AWS SDK. It needs PostgreSQL's
server on this machine, and no AWS account.

Nothing is left behind, however it ends, unless --data keeps the cluster: then the next run with the
same DIR has the same data, endpoint, keys and certificate authority, so what programs have in their
environment stays valid as long as --listen is the same and not port 0. What was committed is kept
even if this command, PostgreSQL or the machine is killed. A later run creates the roles that are
missing and applies the files of --schema that are new; it is an error if one that was applied has
changed. DIR belongs to one version of dsql's catalog and one major version of PostgreSQL: with
others it is an error. It holds the keys: keep it private, and use it for no data that matters.`,
	examples: `
dsql serve --schema migrations
dsql serve --listen 127.0.0.1:0 --role app --exec npm test
dsql serve --data ~/.local/share/dsql --role app --schema migrations
dsql serve --ready-file /tmp/dsql.env &   # when the file is there: . /tmp/dsql.env`,
	statuses: `
*    with --exec: the command's own; 128 + n if signal n ended it; 127 if it was not found`,
	define: func(flags *flag.FlagSet) func(context.Context, streams, arguments) error {
		s := &server{}
		var listen, region, id, keys string
		flags.StringVar(&listen, "listen", "127.0.0.1:5432", "`HOST:PORT` to listen on; port 0 takes a free one")
		text(flags, &region, "region", "AWS `REGION` of the endpoint; by default us-east-1")
		text(flags, &id, "cluster-id", "`ID` of the cluster, 26 of a-z and 0-9; by default random")
		text(flags, &keys, "keys", "`ID:SECRET`, the AWS access key that signs tokens, never one of an AWS account; by default random")
		flags.Func("role", "a database `ROLE` to create, granted to the credentials, and the one to connect as; may be repeated", s.addRole)
		text(flags, &s.data, "data", "`DIR` to keep the cluster in from run to run; by default nothing is kept")
		text(flags, &s.schema, "schema", "`DIR` whose files *.sql are applied in the order of their names")
		text(flags, &s.caFile, "ca-file", "`FILE` to write the certificate authority to, and to remove at the end; by default a temporary one")
		text(flags, &s.readyFile, "ready-file", "`FILE` to write the environment to when the cluster is ready, and to remove at the end")
		flags.BoolVar(&s.env, "env", false, "print nothing but the environment, as exports of a shell")
		flags.BoolVar(&s.exec, "exec", false, "run `COMMAND...` with the environment, and end with its status; must be the last flag")
		return func(ctx context.Context, std streams, given arguments) error {
			switch {
			case len(given.words) > 0:
				return usageError("serve: unexpected argument %q: run dsql help serve", given.words[0])
			case s.exec && len(given.rest) == 0:
				return usageError("serve: --exec needs a command")
			case s.exec:
				if _, err := exec.LookPath(given.rest[0]); err != nil { // before a cluster is started for it
					return &exitError{exitNotFound, fmt.Errorf("dsql: running the command: %w", err)}
				}
			case len(given.rest) > 0:
				return usageError("serve: unexpected argument %q: a command follows --exec", given.rest[0])
			}
			if err := s.configure(ctx, listen, region, id, keys); err != nil {
				return err
			}
			if s.kept != nil {
				defer s.kept.Close()
			}
			return s.run(ctx, std, given.rest)
		}
	},
}

// server is what the flags of serve say, and what runs.
type server struct {
	opts                            []dsqltest.Option
	data, schema, caFile, readyFile string
	roles                           []string
	env, exec                       bool

	kept    *keep.Dir // nil: nothing is kept
	cluster *dsqltest.Cluster
}

func (s *server) addRole(role string) error {
	if role == "" {
		return errors.New("must not be empty")
	}
	s.roles = append(s.roles, role)
	s.opts = append(s.opts, dsqltest.WithRole(role))
	return nil
}

func (s *server) configure(ctx context.Context, listen, region, id, keys string) error {
	keyID, secret, ok := strings.Cut(keys, ":")
	if keys != "" && !ok {
		return usageError("serve: --keys must be ID:SECRET")
	}
	s.opts = append(s.opts, dsqltest.WithListenAddress(listen))
	if region != "" {
		s.opts = append(s.opts, dsqltest.WithRegion(region))
	}
	if id != "" {
		s.opts = append(s.opts, dsqltest.WithClusterID(id))
	}
	if keys != "" {
		s.opts = append(s.opts, dsqltest.WithCredentials(keyID, secret))
	}
	if s.data == "" {
		return nil
	}
	var err error
	s.kept, err = keep.Open(ctx, s.data, keep.Identity{ClusterID: id, Region: region, AccessKeyID: keyID, SecretAccessKey: secret})
	if err != nil {
		return err
	}
	s.opts = append(s.opts, keep.Option(s.kept).(dsqltest.Option))
	return nil
}

func (s *server) run(ctx context.Context, std streams, command []string) (err error) {
	s.cluster, err = dsqltest.Run(ctx, s.opts...)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: choose another address with --listen; 127.0.0.1:0 takes a free port", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.cluster.Close()) }()
	if s.schema != "" {
		if err := s.cluster.ApplySchema(ctx, os.DirFS(s.schema)); err != nil {
			return fmt.Errorf("dsql: the schema in %s: %w", s.schema, err)
		}
	}
	if s.kept != nil {
		if err := s.kept.Ready(); err != nil {
			return err
		}
	}
	clean, err := s.writeFiles()
	if err != nil {
		return err
	}
	defer clean()
	return s.serve(ctx, std, command)
}

// writeFiles writes the files that were asked for. The function removes them, which happens too if
// this process is killed.
func (s *server) writeFiles() (clean func(), err error) {
	env := func() []byte { return []byte(exports(serveEnv(s.cluster, first(s.roles), s.caFile))) }
	var files []string
	for _, file := range []*string{&s.caFile, &s.readyFile} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return nil, fmt.Errorf("dsql: %w", err)
		}
		files = append(files, *file)
	}
	if len(files) == 0 {
		return func() {}, nil
	}
	if clean, err = removeAtEnd(files); err != nil {
		return nil, err
	}
	if s.caFile != "" {
		err = writeFile(s.caFile, s.cluster.CertPEM(), 0o644)
	}
	if err == nil && s.readyFile != "" { // last: a program that waits for it uses the others
		err = writeFile(s.readyFile, env(), 0o600)
	}
	if err != nil {
		clean()
		return nil, fmt.Errorf("dsql: %w", err)
	}
	return clean, nil
}

func (s *server) serve(ctx context.Context, std streams, command []string) error {
	env := serveEnv(s.cluster, first(s.roles), s.caFile)
	switch {
	case s.exec:
		return runWith(std, command, env)
	case s.env:
		fmt.Fprint(std.out, exports(env))
	default:
		fmt.Fprintf(std.out, "A local cluster is running. Interrupt to stop it.\n\n  endpoint  %s\n  address   %s\n  CA file   %s\n\n%s",
			s.cluster.Endpoint(), s.cluster.Address(), valueOf(env, "PGSSLROOTCERT"), exports(env))
	}
	<-ctx.Done()
	return nil
}

// valueOf returns the value that a variable has in an environment, the last one.
func valueOf(env []string, name string) (value string) {
	for _, v := range env {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}

// runWith runs a command with env until it ends. A signal to this process is passed on to it.
func runWith(std streams, command, env []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = std.in, std.out, std.err
	cmd.Env = append(slices.DeleteFunc(os.Environ(), isContrary), env...)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return &exitError{exitNotFound, fmt.Errorf("dsql: running the command: %w", err)}
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				// A terminal sends the interrupt to the command too.
				if s != os.Interrupt || !isTerminal(std.err) {
					_ = cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	return statusOf(err)
}

// contrary are variables that would connect programs to another cluster. AWS_PROFILE is one even if
// it names the right profile: the SDK for JavaScript warns if keys are set too.
var contrary = []string{"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "PGPASSWORD", "PGSERVICE", "PGSERVICEFILE"}

func isContrary(v string) bool {
	name, _, _ := strings.Cut(v, "=")
	return slices.Contains(contrary, name)
}

// exports writes env for a shell.
func exports(env []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "unset %s\n", strings.Join(contrary, " "))
	for _, v := range lastWins(env) {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	return b.String()
}
