package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/params"
)

// exitNotFound is the exit status of shells when psql, or a command to run, is not found.
const exitNotFound = 127

const installPsql = `install the PostgreSQL client:
  Debian, Ubuntu  apt-get install postgresql-client
  Fedora          dnf install postgresql
  Alpine          apk add postgresql-client
  Homebrew        brew install libpq, then add $(brew --prefix libpq)/bin to PATH`

var psqlCommand = &command{
	name:    "psql",
	args:    "[ENDPOINT] [FLAGS] [-- PSQL-ARGUMENTS]",
	summary: "run psql on a cluster",
	about: `
Runs psql with a fresh token in its environment, never in its argument list. The certificate is
verified against the endpoint's name: by the system's authorities with psql 16 or later, by the
system's file of them with an older one. psql 17 or later starts TLS without a negotiation round
trip. PG* variables that say where and how to connect are not passed on; ~/.psqlrc and PSQL_* are.
psql also uses application_name, search_path, options, connect_timeout, sslrootcert and
sslnegotiation of a URL.

dsql is replaced by psql, so signals and the exit status are psql's. DSQL closes a session after 60
minutes; an interactive psql then reconnects with the password it was started with, which libpq keeps
(one from a password file too, so such a file would not renew it). The token therefore lives 8 hours
unless --expires or the URL says otherwise or the credentials expire sooner: it opens connections as
this role for that long. After that, start it again.`,
	examples: `
dsql psql ENDPOINT
dsql psql ENDPOINT --user app -- --command 'SELECT now()'
dsql psql ENDPOINT -- --no-psqlrc --file schema.sql`,
	statuses: `
3    psql: an error in a script with ON_ERROR_STOP; 1 and 2 are psql's too
127  psql was not found`,
	define: func(flags *flag.FlagSet) func(context.Context, streams, arguments) error {
		var t target
		t.define(flags)
		t.defineRoute(flags)
		t.defineExpires(flags, 8*time.Hour)
		return func(ctx context.Context, _ streams, given arguments) error {
			if len(given.words) > 1 {
				return usageError("psql: unexpected argument %q: psql's own arguments follow --", given.words[1])
			}
			cfg, err := t.config(first(given.words))
			if err != nil {
				return err
			}
			path, major, err := findPsql(ctx)
			if err != nil {
				return err
			}
			env, err := psqlEnv(ctx, cfg, &t, major)
			if err != nil {
				return err
			}
			return replaceBy(path, append([]string{"psql"}, given.rest...), append(withoutPG(os.Environ()), env...))
		}
	},
}

var psqlVersion = regexp.MustCompile(`\) (\d+)`)

// findPsql returns psql's path and its major version, which is also that of its libpq or less.
func findPsql(ctx context.Context) (path string, major int, err error) {
	path, err = exec.LookPath("psql")
	if err != nil {
		return "", 0, &exitError{exitNotFound, errors.New("dsql: psql was not found: " + installPsql)}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", 0, fmt.Errorf("dsql: %s --version: %w", path, err)
	}
	m := psqlVersion.FindSubmatch(out)
	if m == nil {
		return "", 0, fmt.Errorf("dsql: %s --version printed %.60q, which names no version of PostgreSQL", path, out)
	}
	major, err = strconv.Atoi(string(m[1]))
	return path, major, err
}

// psqlEnv returns what psql needs to connect. What the configuration says overrides the user's
// environment.
func psqlEnv(ctx context.Context, cfg dsql.Config, t *target, major int) ([]string, error) {
	signed, err := sign(ctx, cfg)
	if err != nil {
		return nil, err
	}
	env := []string{
		"PGHOST=" + signed.host,
		"PGPORT=" + strconv.Itoa(endpoint.Port),
		"PGDATABASE=postgres",
		"PGUSER=" + signed.user,
		"PGPASSWORD=" + signed.token,
		"PGSSLMODE=verify-full",
		"PGGSSENCMODE=disable",
	}
	env = append(env, "PGCONNECT_TIMEOUT="+cmp.Or(cfg.Settings["connect_timeout"], os.Getenv("PGCONNECT_TIMEOUT"), "10"))
	if name, ok := cfg.RuntimeParams["application_name"]; ok {
		env = append(env, "PGAPPNAME="+name)
	}
	options := sessionOptions(os.Getenv("PGOPTIONS"), cfg.RuntimeParams)
	if options != "" {
		env = append(env, "PGOPTIONS="+options)
	}
	if major >= 17 {
		env = append(env, "PGSSLNEGOTIATION="+cmp.Or(cfg.Settings["sslnegotiation"], "direct"))
	}
	roots := t.rootFile()
	if t.rootCert == "" && major >= 16 {
		roots = "system"
	}
	if roots == "" {
		return nil, errors.New("dsql: found no file of certificate authorities, which psql before 16 needs: install ca-certificates, or use --root-cert")
	}
	env = append(env, "PGSSLROOTCERT="+roots)
	if cfg.DialAddress == "" {
		return env, nil
	}
	return dialEnv(ctx, env, cfg.DialAddress, signed.host, options)
}

// sessionOptions returns options with session parameters added behind; the last value wins.
// application_name is none of them: libpq has a variable and a URL parameter for it.
func sessionOptions(options string, runtime map[string]string) string {
	options = strings.TrimSpace(options + " " + runtime["options"])
	for _, name := range slices.Sorted(maps.Keys(runtime)) {
		if name != "options" && name != "application_name" {
			options = params.AppendOption(options, name, runtime[name])
		}
	}
	return options
}

// dialEnv sends TCP to another address. libpq takes an IP address for that, and verifies the name.
func dialEnv(ctx context.Context, env []string, given, host, options string) ([]string, error) {
	address, err := endpoint.ParseDialAddress(given)
	if err != nil {
		return nil, err
	}
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, fmt.Errorf("dsql: looking up the dial address: %w", err)
	}
	env = append(env, "PGHOSTADDR="+ips[0].Unmap().String(), "PGPORT="+port)
	if e, err := endpoint.Parse(host); err == nil && endpoint.IsVPCEndpoint(address) && e.ClusterID != "" {
		env = append(env, "PGOPTIONS="+params.AppendOption(options, params.ClusterID, e.ClusterID))
	}
	return env, nil
}

// keptPG are the PG* variables that do not say where or how to connect.
var keptPG = []string{"PGAPPNAME", "PGCLIENTENCODING", "PGCONNECT_TIMEOUT", "PGDATESTYLE", "PGLOCALEDIR", "PGOPTIONS", "PGSYSCONFDIR", "PGTZ"}

func withoutPG(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "PG") && !slices.Contains(keptPG, name)
	})
}

// replaceBy replaces this process. Where the system has no such thing, it waits for a child.
func replaceBy(path string, args, env []string) error {
	if runtime.GOOS != "windows" {
		return fmt.Errorf("dsql: running %s: %w", path, syscall.Exec(path, args, lastWins(env)))
	}
	signal.Notify(make(chan os.Signal, 1), os.Interrupt) // for the child: this process keeps waiting
	cmd := exec.Command(path, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, env
	return statusOf(cmd.Run())
}

// lastWins drops all but the last value of each variable; programs differ in which one they take.
func lastWins(env []string) []string { return (&exec.Cmd{Env: env}).Environ() }

// statusOf turns the end of a child into this command's own.
func statusOf(err error) error {
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return err
	}
	code := ended.ExitCode()
	if status, ok := ended.Sys().(interface{ Signal() syscall.Signal }); ok && code < 0 {
		code = 128 + int(status.Signal())
	}
	return &exitError{code: cmp.Or(max(code, 0), exitFailed)}
}
