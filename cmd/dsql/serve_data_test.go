//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// dial connects as a program with the environment that serve exports.
func dial(t *testing.T, env []string) *pgx.Conn {
	t.Helper()
	vars := variables(strings.Join(env, "\n"))
	cfg, err := dsql.ParseURL(vars["DSQL_URL"])
	require.NoError(t, err)
	connector, err := dsql.NewConnector(t.Context(), cfg,
		dsql.WithCredentials(credentials.NewStaticCredentialsProvider(vars["AWS_ACCESS_KEY_ID"], vars["AWS_SECRET_ACCESS_KEY"], "")))
	require.NoError(t, err)
	cc, err := connector.ConnConfig(t.Context())
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), cc)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func (s *serving) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, s.cmd.Wait())
}

// lasting returns the variables of an environment other than the port and those that contain it.
func lasting(env []string) map[string]string {
	vars := variables(strings.Join(env, "\n"))
	delete(vars, "DSQL_URL")
	delete(vars, "DSQL_DIAL_ADDRESS")
	delete(vars, "PGPORT")
	return vars
}

func writeIn(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

func count(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM app.t").Scan(&n))
	return n
}

const dataSchema = "CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO app; CREATE TABLE app.t (id int PRIMARY KEY); GRANT ALL ON app.t TO app;\n"

func TestServeKeepsItsData(t *testing.T) {
	t.Parallel()
	data, schema := filepath.Join(shortDir(t), "data"), t.TempDir()
	writeIn(t, schema, "1.sql", dataSchema+"CREATE FUNCTION app.f(n int) RETURNS void LANGUAGE sql AS 'INSERT INTO app.t VALUES (n)';")
	args := []string{"--data", data, "--schema", schema, "--role", "app"}
	first := serve(t, args...)
	conn := dial(t, first.env)
	_, err := conn.Exec(t.Context(), "INSERT INTO app.t VALUES (1)")
	require.NoError(t, err)
	first.stop(t)

	writeIn(t, schema, "2.sql", "INSERT INTO app.t VALUES (2);")
	second := serve(t, append(args, "--role", "other")...)
	require.Equal(t, lasting(first.env), lasting(second.env), "what programs have is still valid")
	conn = dial(t, second.env)
	require.Equal(t, 2, count(t, conn))

	// Of two transactions that write through a function, one fails at COMMIT.
	other := dial(t, second.env)
	for _, c := range []*pgx.Conn{conn, other} {
		_, err := c.Exec(t.Context(), "BEGIN; SELECT app.f(3)")
		require.NoError(t, err)
	}
	_, err = conn.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), "COMMIT")
	require.Error(t, err)
	second.stop(t)
	require.Empty(t, left(t, first.dir), "nothing is left elsewhere")

	writeIn(t, schema, "1.sql", "SELECT 1;")
	r := runIn(t, nil, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "1.sql was applied to the cluster in "+data+" and has changed since")
}

// An acknowledged commit outlives the kill of the command, and that of everything.
func TestServeKeepsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	data, schema := filepath.Join(shortDir(t), "data"), t.TempDir()
	writeIn(t, schema, "1.sql", dataSchema)
	args := []string{"--data", data, "--schema", schema, "--role", "app"}
	var acknowledged, ids atomic.Int64 // one may have been committed and not acknowledged
	for _, everything := range []bool{false, true} {
		s := serve(t, args...)
		conn := dial(t, s.env)
		done := make(chan struct{})
		before := acknowledged.Load()
		go func() {
			defer close(done)
			for {
				if _, err := conn.Exec(t.Context(), "INSERT INTO app.t VALUES ($1)", ids.Add(1)); err != nil {
					return
				}
				acknowledged.Add(1)
			}
		}()
		require.Eventually(t, func() bool { return acknowledged.Load() > before+50 }, 30*time.Second, time.Millisecond)
		if everything {
			pid, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
			require.NoError(t, err)
			var server int
			_, err = fmt.Sscan(string(pid), &server)
			require.NoError(t, err)
			require.NoError(t, syscall.Kill(server, syscall.SIGKILL))
		}
		require.NoError(t, s.cmd.Process.Kill())
		<-done
		_ = s.cmd.Wait()

		s = serve(t, args...) // at once: it waits for the end of what was killed
		require.GreaterOrEqual(t, int64(count(t, dial(t, s.env))), acknowledged.Load())
		s.stop(t)
	}
}

func TestServeHasItsDataToItself(t *testing.T) {
	t.Parallel()
	data := filepath.Join(shortDir(t), "data")
	s := serve(t, "--data", data)
	r := runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--data", data)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "dsql: another dsql serve uses the directory of "+data)
	require.NoError(t, dial(t, s.env).Ping(t.Context()), "it is still running")
	s.stop(t)
}

// A first run that does not become ready leaves nothing for the next to continue from.
func TestServeReplacesIncompleteData(t *testing.T) {
	t.Parallel()
	data, schema := filepath.Join(shortDir(t), "data"), t.TempDir()
	args := []string{"serve", "--listen", "127.0.0.1:0", "--data", data, "--schema", schema, "--role", "app", "--exec", "true"}
	writeIn(t, schema, "1.sql", dataSchema)
	writeIn(t, schema, "2.sql", "CREATE TABLE app.u (id int PRIMARY KEY); TRUNCATE app.u;")
	r := runIn(t, nil, args...)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "2.sql: TRUNCATE")
	writeIn(t, schema, "2.sql", "CREATE TABLE app.u (id int PRIMARY KEY);")
	require.Equal(t, result{"", "", 0}, runIn(t, nil, args...))
	require.Equal(t, result{"", "", 0}, runIn(t, nil, args...))
}

func TestServeRefusesData(t *testing.T) {
	t.Parallel()
	data := filepath.Join(shortDir(t), "data")
	args := []string{"serve", "--listen", "127.0.0.1:0", "--data", data, "--exec", "true"}
	require.Equal(t, result{"", "", 0}, runIn(t, nil, append([]string{"serve", "--region", "eu-west-1", "--keys", "AKIAFIXED:fixed"}, args[1:]...)...))
	file, postgres := filepath.Join(data, "cluster.json"), filepath.Join(data, "postgres")
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	edit := func(change func(string) string) func(*testing.T) {
		return func(t *testing.T) { require.NoError(t, os.WriteFile(file, []byte(change(string(whole))), 0o600)) }
	}
	made := func(with string) func(*testing.T) {
		return edit(func(s string) string {
			before, after, ok := strings.Cut(s, `"Postgres": "`)
			require.True(t, ok)
			_, after, _ = strings.Cut(after, `"`)
			return before + `"Postgres": "` + with + `"` + after
		})
	}
	version, err := os.ReadFile(filepath.Join(postgres, "PG_VERSION"))
	require.NoError(t, err)
	for _, tt := range []struct {
		name   string
		damage func(*testing.T)
		flags  []string
		want   string
	}{
		{"the state is cut", edit(func(s string) string { return s[:len(s)/2] }), nil, "is damaged: cluster.json cannot be read"},
		{"the state is empty", edit(func(string) string { return "{}" }), nil, "is damaged: cluster.json cannot be read"},
		{"the authority is damaged", edit(func(s string) string { return strings.Replace(s, "BEGIN EC", "BEGIN", 1) }), nil, "is damaged: cluster.json cannot be read"},
		{"the ID is a path", edit(func(s string) string { return strings.Replace(s, `"ClusterID": "`, `"ClusterID": "../../`, 1) }), nil, "is damaged: cluster.json cannot be read"},
		{"PostgreSQL is newer", made("14-000000000000"), nil, "was made by PostgreSQL 14, and this is"},
		{"the catalog is another", made(strings.TrimSpace(string(version)) + "-000000000000"), nil, "another version of dsql"},
		{"another Region", nil, []string{"--region", "us-west-2"}, "has the Region eu-west-1"},
		{"another ID", nil, []string{"--cluster-id", clusterID}, "has the cluster ID"},
		{"another key", nil, []string{"--keys", "AKIAOTHER:fixed"}, "has the access key AKIAFIXED: leave the flag out"},
		{"another secret", nil, []string{"--keys", "AKIAFIXED:other"}, "with another secret"},
		{"data is missing", func(t *testing.T) {
			require.NoError(t, os.Rename(postgres, postgres+".away"))
			t.Cleanup(func() { require.NoError(t, os.Rename(postgres+".away", postgres)) })
		}, nil, "is damaged: PostgreSQL's data"},
		{"data is damaged", func(t *testing.T) {
			control := filepath.Join(postgres, "global", "pg_control")
			require.NoError(t, os.Rename(control, control+".away"))
			t.Cleanup(func() { require.NoError(t, os.Rename(control+".away", control)) })
		}, nil, "pg_control"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.damage != nil {
				tt.damage(t)
			}
			r := runIn(t, nil, append(append([]string{"serve", "--listen", "127.0.0.1:0", "--data", data}, tt.flags...), "--exec", "true")...)
			require.Equal(t, 1, r.code, r.out)
			require.Contains(t, r.err, tt.want)
			require.NotContains(t, r.err, "fixed", "the secret")
			require.NoError(t, os.WriteFile(file, whole, 0o600))
		})
	}
	require.Equal(t, result{"", "", 0}, runIn(t, nil, append([]string{"serve", "--region", "eu-west-1", "--keys", "AKIAFIXED:fixed"}, args[1:]...)...), "nothing was changed")

	foreign := t.TempDir()
	writeIn(t, foreign, "thesis.txt", "")
	r := runIn(t, nil, "serve", "--listen", "127.0.0.1:0", "--data", foreign)
	require.Contains(t, r.err, "has files and no cluster.json")
	require.Equal(t, []string{"thesis.txt"}, left(t, foreign))

	fresh := filepath.Join(shortDir(t), "data")
	r = runIn(t, nil, "serve", "--data", fresh, "--cluster-id", "short")
	require.Contains(t, r.err, "26 characters")
	require.NoFileExists(t, filepath.Join(fresh, "cluster.json"))
}

// As root, PostgreSQL runs as another user; as anybody else, as that user.
func TestServeKeepsDataOfItsUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can run the command as another user, so this was not tried")
	}
	dir := shortDir(t)
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	bin, data := filepath.Join(dir, "dsql"), filepath.Join(dir, "data")
	require.NoError(t, os.WriteFile(bin, self, 0o755))
	as := func(credential *syscall.Credential) result {
		cmd := dsqlCommand(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, "serve", "--listen", "127.0.0.1:0", "--data", data, "--exec", "true")
		cmd.Path, cmd.Args[0], cmd.Dir = bin, bin, dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		return runCommand(t, cmd)
	}
	other := &syscall.Credential{Uid: 65533, Gid: 65533}
	require.Equal(t, result{"", "", 0}, as(other))
	require.Equal(t, result{"", "", 0}, as(other))
	r := as(nil)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "belongs to user 65533")

	closed := filepath.Join(dir, "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	data = filepath.Join(closed, "data")
	r = as(nil)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "this user may enter")
}
