package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/dsqltest"
)

// asCommand has the test binary be the command itself.
const asCommand = "DSQL_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// result is what a run of the command left.
type result struct {
	out, err string
	code     int
}

// dsqlCommand prepares a run of the command in an environment without ambient settings.
func dsqlCommand(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(bareEnv(t), env...)
	return cmd
}

// bareEnv is an environment in which nothing is configured and no network is asked.
func bareEnv(t *testing.T) []string {
	nowhere := filepath.Join(t.TempDir(), "none")
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "DSQL_")
	})
	return append(env, asCommand+"=1", "AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL_STS=http://127.0.0.1:1",
		"AWS_CONFIG_FILE="+nowhere, "AWS_SHARED_CREDENTIALS_FILE="+nowhere)
}

func runIn(t *testing.T, env []string, args ...string) result {
	t.Helper()
	return runCommand(t, dsqlCommand(t, env, args...))
}

func runCommand(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	runErr := cmd.Run()
	var exit *exec.ExitError
	if runErr != nil && !errors.As(runErr, &exit) {
		require.NoError(t, runErr)
	}
	return result{out.String(), err.String(), cmd.ProcessState.ExitCode()}
}

// clusterEnv is what serve exports, for a cluster of the test's own.
func clusterEnv(t *testing.T, c *dsqltest.Cluster) []string {
	t.Helper()
	return serveEnv(c, "", "")
}

// set replaces variables.
func set(env []string, vars ...string) []string {
	env = slices.Clone(env)
	for _, v := range vars {
		name, _, _ := strings.Cut(v, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, v)
	}
	return env
}

var static = []string{"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}

const (
	clusterID = "abcdefghijklmnopqrstuvwxyz"
	endpoint1 = clusterID + ".dsql.us-east-1.on.aws"
)

var updateDocs = flag.Bool("update", false, "rewrite docs/cli.md")

func TestPageIsTheHelp(t *testing.T) {
	const page = "../../docs/cli.md"
	var b strings.Builder
	b.WriteString("# The command dsql\n\n<!-- Made from the command's help: go test ./cmd/dsql -run TestPageIsTheHelp -update -->\n\n" +
		"```sh\ngo install github.com/go-dsql/dsql/cmd/dsql@latest\n```\n\nProgrammers of other languages than Go: see [other-languages.md](other-languages.md).\n\n")
	fmt.Fprintf(&b, "```text\n%s```\n", overview())
	for _, c := range commands {
		fmt.Fprintf(&b, "\n## dsql %s\n\n```text\n%s```\n", c.name, c.help())
	}
	if *updateDocs {
		require.NoError(t, os.WriteFile(page, []byte(b.String()), 0o644))
	}
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(got), "run go test ./cmd/dsql -run TestPageIsTheHelp -update")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		code int
		out  string // in standard output
		err  string // in standard error
	}{
		{"", 2, "", "Usage: dsql COMMAND"},
		{"help", 0, "Usage: dsql COMMAND", ""},
		{"--help", 0, "Usage: dsql COMMAND", ""},
		{"help token", 0, "Usage: dsql token [ENDPOINT]", ""},
		{"token --help", 0, "Usage: dsql token [ENDPOINT]", ""},
		{"token -h", 0, "Usage: dsql token [ENDPOINT]", ""},
		{"help nonsense", 2, "", `dsql: unknown command "nonsense"`},
		{"nonsense", 2, "", `dsql: unknown command "nonsense"`},
		{"version", 0, "dsql ", ""},
		{"--version", 0, "dsql ", ""},
		{"token", 2, "", "dsql: no ENDPOINT: name the cluster, or set DSQL_ENDPOINT"},
		{"token --nonsense", 2, "", "dsql: token: unknown flag --nonsense"},
		{"token --expires soon", 2, "", "for flag --expires"},
		{"token a b", 2, "", `unexpected argument "b"`},
		{"token --user= " + endpoint1, 2, "", "must not be empty"},
		{"token --url --json " + endpoint1, 2, "", "mutually exclusive"},
		{"psql a b", 2, "", "psql's own arguments follow --"},
		{"load t", 2, "", "TABLE and FILE"},
		{"load t f --rows 3001", 2, "", "1 to 3000"},
		{"load t f --on-conflict ignore", 2, "", "skip or update"},
		{"load t f --delimiter xx", 2, "", "one character"},
		{"load a.b.c f", 2, "", "not a table's name"},
		{"load t f g --rejects r", 2, "", "one by one"},
		{"serve a", 2, "", `unexpected argument "a"`},
		{"serve --exec", 2, "", "needs a command"},
		{"serve -- ls", 2, "", "follows --exec"},
		{"doctor --timeout 0s x", 2, "", "--timeout"},
		{"token 72 --region us-east-1", 1, "", `dsql: the endpoint "72"`},
		{"token " + endpoint1, 1, "", "dsql: no AWS credentials"},
		{"token " + endpoint1 + " --root-cert /none", 1, "", "reading the certificate authorities"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			r := runIn(t, nil, strings.Fields(tt.args)...)
			require.Equal(t, tt.code, r.code, "%s%s", r.out, r.err)
			require.Contains(t, r.out, tt.out)
			require.Contains(t, r.err, tt.err)
			require.NotContains(t, r.out+r.err, "\x1b", "no color")
			if tt.code != 0 {
				require.Empty(t, r.out)
			}
		})
	}
}

// Errors say what to do where Explain knows.
func TestErrorsAreExplained(t *testing.T) {
	t.Parallel()
	r := runIn(t, nil, "token", endpoint1)
	require.Contains(t, r.err, "aws sts get-caller-identity")
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func start(t *testing.T, opts ...dsqltest.Option) (*dsqltest.Cluster, []string) {
	t.Helper()
	c := dsqltest.Start(t, opts...)
	return c, clusterEnv(t, c)
}

// lockedBuffer is a buffer that may be read while a command writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
