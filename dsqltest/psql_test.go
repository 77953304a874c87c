package dsqltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// psql runs commands of psql's at a cluster.
func psql(t *testing.T, c *Cluster, commands ...string) string {
	t.Helper()
	program, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	root := filepath.Join(t.TempDir(), "root.pem")
	require.NoError(t, os.WriteFile(root, c.CertPEM(), 0o600))
	cfg := dsql.Config{Endpoint: c.Endpoint()}
	for _, opt := range c.Options() {
		require.NoError(t, opt(&cfg))
	}
	connector, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)
	token, err := connector.Token(t.Context())
	require.NoError(t, err)
	host, port, _ := strings.Cut(c.Address(), ":")
	args := []string{"-X", "-v", "ON_ERROR_STOP=1", "-A", "-F", ","}
	for _, command := range commands {
		args = append(args, "-c", command)
	}
	cmd := exec.Command(program, append(args, "host="+c.Endpoint()+" hostaddr="+host+" port="+port+" user=admin dbname=postgres sslmode=verify-full sslrootcert="+root)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "PGPASSWORD=" + token}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", commands, out)
	return string(out)
}

// Every command of psql's that describes something works, as it does on DSQL.
func TestPsqlDescribes(t *testing.T) {
	c := Start(t)
	conn := connect(t, c)
	apply(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n int, s text CHECK (s <> ''))", "CREATE INDEX ASYNC t_n ON t (n)", "CREATE VIEW v AS SELECT id FROM t",
		"CREATE SEQUENCE sq CACHE 1", "CREATE DOMAIN dom AS text", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE SCHEMA app", "CREATE ROLE app WITH LOGIN")
	commands := strings.Fields(`\d \dS \d+ \da \dA \dAc \dAf \dAo \dAp \db \dc \dC \dd \dD \dD+ \ddp \dE \det \deu \dew \df \df+ \dF \dFd \dFp \dFt
		\dg \dg+ \di \di+ \dl \dL \dm \dn \dn+ \do \dO \dp \dP \drds \dRp \dRs \ds \ds+ \dt \dt+ \dT \dT+ \du \du+ \dv \dv+ \dx \dX \dy \l \z`)
	psql(t, c, append(commands, `\d t`, `\d+ t`, `\d v`, `\d+ v`, `\d sq`, `\d t_n`, `\d+ t_n`, `\sv v`, `\sf f`)...)
	described := psql(t, c, `\d t`)
	require.Contains(t, described, "PRIMARY KEY, btree_index (id) INCLUDE (n, s)")
	require.Contains(t, described, "t_n\" btree_index (n)")
	require.Contains(t, psql(t, c, `\dt`), "public,t,table,admin")
	require.Contains(t, psql(t, c, `\dn`), "app,admin")
	require.Contains(t, psql(t, c, `\df`), "public,f,integer")

	databases := strings.Split(strings.TrimSpace(psql(t, c, `\l`)), "\n")
	require.Contains(t, databases[2], "postgres,admin,UTF8,C,C")
	require.Equal(t, "(1 row)", databases[3])
	roles := psql(t, c, `\du`)
	require.Contains(t, roles, "admin,")
	require.Contains(t, roles, "app,")
	require.NotContains(t, roles, "dsqltest")
}
