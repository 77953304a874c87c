package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/fakepg"
)

// examine runs doctor in an environment.
func examine(t *testing.T, env []string, args ...string) (report, result) {
	t.Helper()
	r := runIn(t, env, append([]string{"doctor", "--json"}, args...)...)
	var got report
	require.NoError(t, json.Unmarshal([]byte(r.out), &got), "%s%s", r.out, r.err)
	return got, r
}

// stepNamed returns a step, which must be there once.
func stepNamed(t *testing.T, r report, name string) step {
	t.Helper()
	var found []step
	for _, s := range r.Steps {
		if s.Name == name {
			found = append(found, s)
		}
	}
	require.Len(t, found, 1, name)
	return found[0]
}

// listener is a server at a TCP level, which handles each connection.
func listener(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// pemOf writes a certificate to a file.
func pemOf(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roots.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return file
}

// tlsServer is a server with a certificate, and the flags to reach and trust it.
func tlsServer(t *testing.T, certificate func(testing.TB, ...string) (tls.Certificate, *x509.CertPool), name string, protocols ...string) []string {
	t.Helper()
	cert, _ := certificate(t, name)
	s := fakepg.Start(t, fakepg.Hooks{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols}})
	return []string{endpoint1, "--dial-address", s.Addr, "--root-cert", pemOf(t, cert)}
}

// refusing is a server that refuses every client.
func refusing(t *testing.T, refusal *pgconn.PgError) []string {
	t.Helper()
	cert, _ := fakepg.Certificate(t, endpoint1)
	s := fakepg.Start(t, fakepg.Hooks{
		TLS:      &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"postgresql"}},
		Password: func(*fakepg.Conn) error { return refusal },
	})
	return []string{endpoint1, "--dial-address", s.Addr, "--root-cert", pemOf(t, cert)}
}

func TestDoctorNamesTheStepThatFails(t *testing.T) {
	t.Parallel()
	closed := freePort(t)
	local := func(fault func(*dsqltest.Cluster), opts ...dsqltest.Option) func(*testing.T) ([]string, []string) {
		return func(t *testing.T) ([]string, []string) {
			c, env := start(t, opts...)
			if fault != nil {
				fault(c)
			}
			return env, nil
		}
	}
	at := func(args ...string) func(*testing.T) ([]string, []string) {
		return func(*testing.T) ([]string, []string) { return static, args }
	}
	in := func(env []string, args ...string) func(*testing.T) ([]string, []string) {
		return func(*testing.T) ([]string, []string) { return env, args }
	}
	with := func(args func(*testing.T) []string) func(*testing.T) ([]string, []string) {
		return func(t *testing.T) ([]string, []string) { return static, args(t) }
	}
	sql := func(t *testing.T, c *dsqltest.Cluster, statements ...string) {
		for _, statement := range statements {
			conn, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), statement)
			require.NoError(t, err)
			require.NoError(t, conn.Close(t.Context()))
		}
	}

	for _, tt := range []struct {
		fault  string
		set    func(*testing.T) (env, args []string)
		step   string
		advice string // a part of it
	}{
		{"no endpoint", in(static), "endpoint", "aws dsql get-cluster"},
		{"a short ID", at(clusterID[1:]), "endpoint", "aws dsql get-cluster"},
		{"an RDS host", at("db.x.us-east-1.rds.amazonaws.com"), "endpoint", "aws dsql get-cluster"},
		{"a refused parameter", at("postgres://" + endpoint1 + "/postgres?statement_timeout=1"), "endpoint", ""},
		{"TLS turned off", at("postgres://" + endpoint1 + "/postgres?sslmode=disable"), "endpoint", ""},
		{"an ID without a region", at(clusterID), "region", "--region"},
		{"the endpoint's region contradicted", at(endpoint1, "--region", "eu-west-1"), "region", "--region"},
		{"a role that looks like admin", at(endpoint1, "--user", "Admin"), "settings", ""},
		{"a file without certificates", at(endpoint1, "--root-cert", "/dev/null"), "settings", ""},
		{"no credentials", in(nil, endpoint1), "credentials", "aws sts get-caller-identity"},
		{"a profile that is not there", at(endpoint1, "--profile", "nope"), "credentials", "profile"},
		{"expired credentials", func(t *testing.T) ([]string, []string) {
			return processCredentials(t, time.Now().Add(-time.Hour)), []string{endpoint1}
		}, "credentials", ""},
		{"a clock that STS contradicts", func(t *testing.T) ([]string, []string) {
			return append([]string{stsServer(t, time.Hour, "")}, static...), []string{endpoint1, "--dial-address", closed}
		}, "clock", "NTP"},
		{"a clock that STS contradicts by refusing", func(t *testing.T) ([]string, []string) {
			return append([]string{stsServer(t, -time.Hour, "AccessDenied")}, static...), []string{endpoint1, "--dial-address", closed}
		}, "clock", "NTP"},
		{"a name that DNS does not know", at(endpoint1, "--dial-address", "nowhere.invalid"), "dns", ""},
		{"nothing listens", at(endpoint1, "--dial-address", closed), "tcp", "Nothing listens"},
		{"a black hole", with(func(t *testing.T) []string {
			return []string{endpoint1, "--timeout", "300ms", "--dial-address", listener(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })}
		}), "tls", "does not pass TLS on"},
		{"closed in the handshake", with(func(t *testing.T) []string {
			return []string{endpoint1, "--dial-address", listener(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })}
		}), "tls", "closes TLS connections"},
		{"an HTTP server", with(func(t *testing.T) []string {
			return []string{endpoint1, "--dial-address", listener(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
				_, _ = io.Copy(io.Discard, c)
			})}
		}), "tls", "is not DSQL"},
		{"a certificate of another name", with(func(t *testing.T) []string {
			return tlsServer(t, fakepg.Certificate, "proxy.example", "postgresql")
		}), "tls", "for other names"},
		{"an expired certificate", with(func(t *testing.T) []string {
			return tlsServer(t, fakepg.ExpiredCertificate, endpoint1, "postgresql")
		}), "tls", "clock"},
		{"a self-signed certificate", with(func(t *testing.T) []string {
			return tlsServer(t, fakepg.Certificate, endpoint1, "postgresql")[:3]
		}), "tls", "--root-cert sets"},
		{"no ALPN", with(func(t *testing.T) []string {
			return tlsServer(t, fakepg.Certificate, endpoint1)
		}), "tls", "terminates TLS"},
		{"the ALPN of HTTP", with(func(t *testing.T) []string {
			return tlsServer(t, fakepg.Certificate, endpoint1, "h2")
		}), "tls", "terminates TLS"},
		{"SNI lost on the way", with(func(t *testing.T) []string {
			return refusing(t, &pgconn.PgError{Code: "08006", Message: "unable to accept connection, sni was not received"})
		}), "sni", "SNI"},
		{"another cluster's name", func(t *testing.T) ([]string, []string) {
			_, env := start(t)
			return set(env, "DSQL_ENDPOINT="+endpoint1), nil
		}, "sni", "aws dsql get-cluster"},
		{"the wrong region of a cluster ID", func(t *testing.T) ([]string, []string) {
			c, env := start(t)
			id, _, _ := strings.Cut(c.Endpoint(), ".")
			return set(env, "DSQL_ENDPOINT="+id, "DSQL_REGION=us-east-2"), nil
		}, "sni", "region"},
		{"waking up", local(func(c *dsqltest.Cluster) { c.SetWaking(time.Minute) }), "cluster", "30 seconds"},
		{"too many connections", local(func(c *dsqltest.Cluster) { c.RefuseConnections("53300") }), "cluster", "quota"},
		{"connections too fast", local(func(c *dsqltest.Cluster) { c.RefuseConnections("53400") }), "cluster", "quota"},
		{"a clock that is behind", local(func(c *dsqltest.Cluster) { c.SetClockOffset(time.Hour) }), "clock", "NTP"},
		{"a wrong secret key", func(t *testing.T) ([]string, []string) {
			_, env := start(t)
			return set(env, "AWS_SECRET_ACCESS_KEY=wrong"), nil
		}, "authentication", "aws sts get-caller-identity"},
		{"IAM does not allow it", with(func(t *testing.T) []string {
			return refusing(t, &pgconn.PgError{Code: "08006", Message: "unable to accept connection, access denied",
				Hint: "User: arn:aws:iam::123456789012:user/ana is not authorized to perform: dsql:DbConnectAdmin on resource: arn:aws:dsql:us-east-1:123456789012:cluster/" + clusterID})
		}), "authentication", "policy"},
		{"denied without a reason", local(func(c *dsqltest.Cluster) { c.RefuseConnections("08006") }), "authentication", "in this order"},
		{"no answer to the token", with(func(t *testing.T) []string {
			cert, _ := fakepg.Certificate(t, endpoint1)
			s := fakepg.Start(t, fakepg.Hooks{
				TLS: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"postgresql"}},
				Password: func(c *fakepg.Conn) error {
					_, err := io.Copy(io.Discard, c)
					return errors.Join(err, io.EOF)
				},
			})
			return []string{endpoint1, "--timeout", "300ms", "--dial-address", s.Addr, "--root-cert", pemOf(t, cert)}
		}), "authentication", "in time"},
		{"a role that is not there", func(t *testing.T) ([]string, []string) {
			_, env := start(t)
			return env, []string{"--user", "nope"}
		}, "role", "CREATE ROLE nope"},
		{"a role that is not granted", func(t *testing.T) ([]string, []string) {
			c, env := start(t)
			sql(t, c, "CREATE ROLE app WITH LOGIN")
			return append(env, stsServer(t, 0, "")), []string{"--user", "app"}
		}, "role", "AWS IAM GRANT app TO 'arn:aws:iam::123456789012:role/app-server'"},
		{"a role without LOGIN", with(func(t *testing.T) []string {
			return append(refusing(t, &pgconn.PgError{Code: "28000", Message: `role "app" must have the LOGIN attribute`}), "--user", "app")
		}), "role", "ALTER ROLE app WITH LOGIN"},
		{"a parameter that the cluster refuses", with(func(t *testing.T) []string {
			return refusing(t, &pgconn.PgError{Code: "0A000", Message: `setting configuration parameter "application_name" not supported`})
		}), "session", "application_name"},
		{"queries are not answered", with(func(t *testing.T) []string {
			cert, _ := fakepg.Certificate(t, endpoint1)
			s := fakepg.Start(t, fakepg.Hooks{
				TLS:     &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"postgresql"}},
				Session: func(c *fakepg.Conn) error { _, err := io.Copy(io.Discard, c); return err },
			})
			return []string{endpoint1, "--timeout", "300ms", "--dial-address", s.Addr, "--root-cert", pemOf(t, cert)}
		}), "query", ""},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			t.Parallel()
			env, args := tt.set(t)
			got, r := examine(t, env, args...)
			require.Equal(t, 1, r.code, r.out)
			require.False(t, got.OK)
			require.Equal(t, tt.step, got.Failed, r.out)
			failed := stepNamed(t, got, tt.step)
			require.Equal(t, verdictFailed, failed.Verdict)
			require.NotEmpty(t, failed.Detail)
			require.NotEmpty(t, failed.Advice)
			require.Contains(t, failed.Advice, tt.advice)
			require.NotContains(t, failed.Advice, "<role>")
			require.NotRegexp(t, "With(RootCAs|DialAddress|Profile)", failed.Advice, "options of the library mean nothing here")
			require.NotContains(t, r.out+r.err, "X-Amz", "no token")
			after := false
			for _, s := range got.Steps {
				require.NotEqual(t, after, s.Verdict != verdictSkipped, "%s: %s", s.Name, s.Verdict)
				after = after || s.Name == tt.step
			}
		})
	}
}

// stepNames are the steps that the help explains.
func stepNames() []string {
	var names []string
	for line := range strings.Lines(doctorCommand.about) {
		if name, ok := strings.CutPrefix(line, "  "); ok {
			names = append(names, strings.Fields(name)[0])
		}
	}
	return names
}

func TestDoctorFindsNoFault(t *testing.T) {
	t.Parallel()
	c, env := start(t, dsqltest.WithRole("app"))
	got, r := examine(t, append(env, stsServer(t, 0, "")), "--user", "app")
	require.Equal(t, 0, r.code, r.out)
	require.True(t, got.OK)
	require.Equal(t, []string{c.Endpoint(), "us-east-1", "app", ""}, []string{got.Endpoint, got.Region, got.User, got.Failed})
	var names []string
	for _, s := range got.Steps {
		require.Equal(t, verdictOK, s.Verdict, "%s: %s", s.Name, s.Detail)
		names = append(names, s.Name)
	}
	require.Equal(t, stepNames(), names)
	require.Contains(t, stepNamed(t, got, "identity").Detail, "123456789012")
	require.Contains(t, stepNamed(t, got, "credentials").Detail, "EnvConfigCredentials")

	// Without AWS STS the clock is compared with the cluster's.
	got, r = examine(t, env)
	require.Equal(t, 0, r.code, r.out)
	require.Equal(t, verdictWarning, stepNamed(t, got, "identity").Verdict)
	require.Contains(t, stepNamed(t, got, "clock").Detail, "cluster")

	text := runIn(t, env, "doctor")
	require.Equal(t, 0, text.code)
	for _, name := range names {
		require.Contains(t, text.out, " "+name+" ")
	}
	require.Contains(t, text.out, "no fault found")
}

func TestDoctorPrintsTheAdviceLast(t *testing.T) {
	t.Parallel()
	r := runIn(t, static, "doctor", endpoint1, "--dial-address", freePort(t))
	require.Equal(t, 1, r.code)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	require.Contains(t, lines[len(lines)-1], "Failed: tcp. What to do: Nothing listens")
	require.True(t, slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "skipped  query") }), r.out)
}

// The parts of an endpoint that may be secret are not shown.
func TestDoctorShowsNoSecret(t *testing.T) {
	t.Parallel()
	for _, given := range []string{"postgres://admin:hunter2@" + endpoint1 + "/postgres", "host=x password=hunter2"} {
		r := runIn(t, static, "doctor", given, "--json")
		require.Equal(t, 1, r.code)
		require.NotContains(t, r.out+r.err, "hunter2")
	}
	// The SDK's error quotes what a credential_process prints.
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte("[default]\ncredential_process = echo warning hunter2\n"), 0o600))
	for _, command := range []string{"doctor", "token"} {
		r := runIn(t, []string{"AWS_CONFIG_FILE=" + file}, command, endpoint1, "--json")
		require.Equal(t, 1, r.code)
		require.NotContains(t, r.out+r.err, "hunter2", command)
	}
}

// Each endpoint of a multi-Region cluster is checked separately: a connection of the library would
// go to the peer.
func TestDoctorExaminesPeers(t *testing.T) {
	t.Parallel()
	c, env := start(t, dsqltest.WithPeer("us-east-2"), dsqltest.WithRole("app"))
	peer := c.Peer().Endpoint()
	env = set(env, "DSQL_USER=app")
	for name, args := range map[string]struct{ env, flags []string }{
		"flag":        {env, []string{"--peer", peer}},
		"environment": {set(env, "DSQL_FAILOVER="+peer), nil},
	} {
		r, _ := examine(t, args.env, args.flags...)
		require.True(t, r.OK, name)
		require.Len(t, r.Peers, 1, name)
		require.Equal(t, []string{peer, "us-east-2", "app"}, []string{r.Peers[0].Endpoint, r.Peers[0].Region, r.Peers[0].User})
		require.Equal(t, len(r.Steps), len(r.Peers[0].Steps))
	}
	c.RefuseConnections("53300")
	r, out := examine(t, set(env, "DSQL_FAILOVER="+peer))
	require.Equal(t, 1, out.code)
	require.Equal(t, "cluster", r.Failed, "the peer does not hide it")
	require.True(t, r.Peers[0].OK)
	c.Restore()
	c.RefuseConnections("")
	c.Peer().RefuseConnections("28000")
	text := runIn(t, env, "doctor", "--peer", peer+"/us-east-2")
	require.Equal(t, 1, text.code)
	require.Contains(t, text.out, "app at "+c.Endpoint()+": no fault found.")
	require.Contains(t, text.out, "The peer "+peer)
	require.Contains(t, text.out, "Failed: role.")

	text = runIn(t, env, "doctor", "--peer", strings.Repeat("a", 26))
	require.Equal(t, 2, text.code)
	require.Contains(t, text.err, "needs a region")
}
