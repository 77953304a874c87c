package dsqltest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// program is what TestProgram re-executes the test binary as: it has a URL and its environment.
func program(ctx context.Context, url string) (string, error) {
	cfg, err := dsql.ParseURL(url)
	if err != nil {
		return "", err
	}
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return "", err
	}
	pool, err := connector.NewPool(ctx)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	var name string
	err = pool.QueryRow(ctx, "SELECT name FROM city").Scan(&name)
	return name, err
}

func TestProgramWithURLAndEnv(t *testing.T) {
	if url := os.Getenv("DSQLTEST_TEST_URL"); url != "" {
		name, err := program(t.Context(), url)
		require.NoError(t, err)
		t.Log("found", name)
		return
	}
	c := Start(t)
	apply(t, connect(t, c), "CREATE TABLE city (name text)", "INSERT INTO city VALUES ('Quito')")

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProgramWithURLAndEnv$", "-test.v")
	cmd.Env = append(os.Environ(), "AWS_PROFILE=missing", "AWS_REGION=eu-west-1", "AWS_SESSION_TOKEN=stale", "PGHOST=elsewhere", "PGSSLMODE=disable")
	cmd.Env = append(append(cmd.Env, c.Env()...), "DSQLTEST_TEST_URL="+c.URL())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "found Quito")
}

func TestPsqlWithURLAndEnv(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	c := Start(t)
	connector, err := dsql.NewConnector(t.Context(), c.Config())
	require.NoError(t, err)
	token, err := connector.Token(t.Context())
	require.NoError(t, err)
	for name, args := range map[string][]string{"URL": {c.URL()}, "environment": nil} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), psql, append(args, "-XAtc", "SELECT 6 * 7")...)
			cmd.Env = append(append(os.Environ(), c.Env()...), "PGPASSWORD="+token)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			require.Equal(t, "42", strings.TrimSpace(string(out)))
		})
	}
}

// libpq does not decode a + in a URL.
func TestURLOfAPathWithASpace(t *testing.T) {
	c := Start(t)
	dir := filepath.Join(t.TempDir(), "a b+c")
	require.NoError(t, os.Mkdir(dir, 0o700))
	caFile := filepath.Join(dir, "root.pem")
	require.NoError(t, os.WriteFile(caFile, c.CertPEM(), 0o600))
	original := c.caFile
	t.Cleanup(func() { c.caFile = original })
	c.caFile = caFile
	require.Contains(t, c.URL(), "a%20b%2Bc")
	_, err := dsql.ParseURL(c.URL())
	require.NoError(t, err)

	program, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	connector, err := dsql.NewConnector(t.Context(), c.Config())
	require.NoError(t, err)
	token, err := connector.Token(t.Context())
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, c.URL(), "-XAtc", "SELECT 1")
	cmd.Env = append(os.Environ(), "PGPASSWORD="+token)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestConfigOpensTheCluster(t *testing.T) {
	c := Start(t, WithRole("app"))
	cfg := c.Config()
	cfg.User = "app"
	connector, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)
	pool, err := connector.NewPool(t.Context())
	require.NoError(t, err)
	defer pool.Close()
	var user string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT session_user").Scan(&user))
	require.Equal(t, "app", user)
}

func TestFixedAddressIDAndKeys(t *testing.T) {
	const id = "abcdefghijklmnopqrstuvwxy0"
	const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())

	opts := []Option{WithListenAddress(address), WithClusterID(id), WithCredentials("AKIAIOSFODNN7EXAMPLE", secret)}
	for range 2 { // the second has the first one's address and ID
		c, err := Run(t.Context(), opts...)
		require.NoError(t, err)
		require.Equal(t, address, c.Address())
		require.Equal(t, id+".dsql.us-east-1.on.aws", c.Endpoint())
		require.Contains(t, c.Env(), "AWS_SECRET_ACCESS_KEY="+secret)
		require.NoError(t, newPool(t, c).Ping(t.Context()))

		_, err = Run(t.Context(), opts...)
		require.ErrorContains(t, err, "already runs")
		other := Start(t, WithListenAddress(address))
		require.NoError(t, newPool(t, other).Ping(t.Context()), "another ID on the same address")
		require.NoError(t, newPool(t, c).Ping(t.Context()), "the refused one did not remove it")
		require.NoError(t, other.Close())
		require.NoError(t, c.Close())
	}
	_, err = net.Dial("tcp", address)
	require.ErrorContains(t, err, "refused")
}

func TestListenOnAllAddresses(t *testing.T) {
	c := Start(t, WithListenAddress("0.0.0.0:0"))
	require.True(t, strings.HasPrefix(c.Address(), "127.0.0.1:"), c.Address())
	require.NoError(t, newPool(t, c).Ping(t.Context()))
}

func TestTakenAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, err = Run(t.Context(), WithListenAddress(taken.Addr().String()))
	require.ErrorContains(t, err, "address already in use")
	var n int
	require.NoError(t, connect(t, Start(t)).QueryRow(t.Context(), "SELECT 1").Scan(&n))
}

func TestFilesGoWithTheCluster(t *testing.T) {
	c, err := Run(t.Context())
	require.NoError(t, err)
	for _, path := range []string{c.caFile, c.awsFile} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	require.NoError(t, c.Close())
	for _, path := range []string{c.caFile, c.awsFile} {
		require.NoFileExists(t, path)
		require.DirExists(t, filepath.Dir(path))
	}
}

func TestURLHasNoSecret(t *testing.T) {
	c := Start(t)
	require.NotContains(t, c.URL(), c.credentials().SecretAccessKey)
	cfg, err := pgx.ParseConfig(strings.ReplaceAll(c.URL(), "sslmode=verify-full", "sslmode=disable"))
	require.NoError(t, err, "the syntax is libpq's")
	require.Empty(t, cfg.Password)
}
