package dsql_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// wire is what a connection looks like to the server, less what is random.
type wire struct {
	Direct     bool
	Hello      hello
	ClientCert int
	ALPN       string
	Parameters map[string]string
	SignedHost string
	Token      map[string]string
}

type hello struct {
	ServerName   string
	Protos       []string
	Versions     []uint16
	CipherSuites []uint16
	Curves       []tls.CurveID
}

// observe connects once and returns what the server saw.
func observe(t *testing.T) wire {
	t.Helper()
	var seen hello
	var mu sync.Mutex
	cert, roots := fakepg.Certificate(t, host)
	config := &tls.Config{
		Certificates: []tls.Certificate{cert},
		NextProtos:   []string{"postgresql"},
		ClientAuth:   tls.RequestClientCert,
	}
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		seen = hello{h.ServerName, h.SupportedProtos, h.SupportedVersions, h.CipherSuites, h.SupportedCurves}
		return nil, nil
	}
	s, opts := harness.Start(t, fakepg.Hooks{TLS: config})
	require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, dsql.WithRootCAs(roots))...)))
	require.Len(t, s.Conns(), 1)
	c := s.Conns()[0]
	w := wire{
		Direct:     c.Direct,
		ClientCert: len(c.TLS.PeerCertificates),
		ALPN:       c.TLS.NegotiatedProtocol,
		Parameters: c.Parameters,
		Token:      make(map[string]string),
	}
	mu.Lock()
	w.Hello = seen
	mu.Unlock()
	name, params := parseToken(t, c.Password)
	w.SignedHost = name
	for key := range params {
		if key != "X-Amz-Date" && key != "X-Amz-Signature" && key != "X-Amz-Credential" {
			w.Token[key] = params.Get(key)
		}
	}
	return w
}

// trap listens where PG* variables point and must hear nothing.
func trap(t *testing.T) (tcp, socketDir string, silent func()) {
	t.Helper()
	s := fakepg.Start(t, fakepg.Hooks{})
	dir, err := os.MkdirTemp("", "trap")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	accepted := make(chan struct{}, 100)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- struct{}{}
			c.Close()
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return s.Addr, dir, func() {
		require.Zero(t, s.Accepted())
		require.Empty(t, accepted)
	}
}

// ambient is one thing in the environment or in the home directory.
type ambient struct {
	name  string
	env   map[string]string
	files map[string]string // below the home directory
}

func ambients(t *testing.T, tcp, socketDir string) []ambient {
	t.Helper()
	trapHost, trapPort, err := net.SplitHostPort(tcp)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	service := write("service.conf", "[bad]\nhost="+trapHost+"\nport="+trapPort+"\nuser=eve\nsslmode=disable\npool_max_conns=x\npool_min_conns=7\nfoo=bar\nkrbspn=x\n")
	one := func(name, value string) ambient {
		return ambient{name: name + "=" + value, env: map[string]string{name: value}}
	}
	all := []ambient{
		one("PGHOST", trapHost), one("PGHOST", socketDir), one("PGHOST", trapHost+",other"),
		one("PGHOSTADDR", trapHost),
		one("PGPORT", trapPort), one("PGPORT", "abc"), one("PGPORT", "1,2,3"),
		one("PGUSER", "eve"), one("PGPASSWORD", "hunter2"), one("PGDATABASE", "other"),
		one("PGSSLROOTCERT", "/nope"), one("PGSSLROOTCERT", write("broken.crt", "no certificate")), one("PGSSLROOTCERT", "system"),
		one("PGSSLCERT", "/nope"), one("PGSSLKEY", "/nope"), one("PGSSLPASSWORD", "x"),
		one("PGSSLCERTMODE", "disable"), one("PGSSLCERTMODE", "require"), one("PGSSLCERTMODE", "bogus"), one("PGSSLCERTMODE", ""),
		one("PGSSLNEGOTIATION", "postgres"), one("PGSSLNEGOTIATION", "direct"), one("PGSSLNEGOTIATION", "bogus"),
		one("PGSSLSNI", "0"), one("PGOPTIONS", "-c search_path=evil"), one("PGTZ", "Europe/Athens"), one("PGAPPNAME", "evil"),
		one("PGCONNECT_TIMEOUT", "1"), one("PGCONNECT_TIMEOUT", "x"), one("PGCONNECT_TIMEOUT", "-1"),
		one("PGTARGETSESSIONATTRS", "read-write"), one("PGTARGETSESSIONATTRS", "standby"), one("PGTARGETSESSIONATTRS", "bogus"),
		one("PGREQUIREAUTH", "scram-sha-256"), one("PGREQUIREAUTH", "bogus"),
		one("PGCHANNELBINDING", "require"), one("PGCHANNELBINDING", "bogus"),
		one("PGMINPROTOCOLVERSION", "3.2"), one("PGMINPROTOCOLVERSION", "bogus"),
		one("PGMAXPROTOCOLVERSION", "3.2"), one("PGMAXPROTOCOLVERSION", "bogus"),
		one("PGPASSFILE", write("passfile", "*:*:*:*:hunter2\n")), one("PGSERVICEFILE", "/nope"),
		one("PGKRBSRVNAME", "x"), one("PGGSSENCMODE", "require"),
		{name: "PGSERVICE that can be read", env: map[string]string{"PGSERVICE": "bad", "PGSERVICEFILE": service}},
		{name: ".pgpass", files: map[string]string{".pgpass": "*:*:*:*:hunter2\n"}},
		{name: "root.crt", files: map[string]string{".postgresql/root.crt": "no certificate"}},
		{name: "client certificate", files: map[string]string{".postgresql/postgresql.crt": "broken", ".postgresql/postgresql.key": "broken"}},
	}
	for _, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full", "bogus"} {
		all = append(all, one("PGSSLMODE", mode))
	}
	return all
}

func (a ambient) set(t *testing.T) {
	t.Helper()
	for name, value := range a.env {
		t.Setenv(name, value)
	}
	for name, content := range a.files {
		path := filepath.Join(os.Getenv("HOME"), name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
}

// clearPG takes the machine's own PG* variables and home directory away.
func clearPG(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "") // restored at the end
			os.Unsetenv(name)
		}
	}
	t.Setenv("HOME", t.TempDir())
}

func TestNothingAmbientChangesTheWire(t *testing.T) {
	clearPG(t)
	tcp, socketDir, silent := trap(t)
	want := observe(t)
	require.True(t, want.Direct)
	require.Zero(t, want.ClientCert)
	all := ambients(t, tcp, socketDir)
	for _, a := range all {
		t.Run(a.name, func(t *testing.T) {
			t.Setenv("HOME", t.TempDir())
			a.set(t)
			require.Equal(t, want, observe(t))
		})
	}
	t.Run("all at once", func(t *testing.T) {
		t.Setenv("HOME", t.TempDir())
		for _, a := range all {
			a.set(t)
		}
		require.Equal(t, want, observe(t))
	})
	silent()
}

func TestFailingEndpointIsNeverReplacedByAnother(t *testing.T) {
	clearPG(t)
	wrong, _ := fakepg.Certificate(t, "other.example.com")
	refuse := func(code string) fakepg.Hooks {
		return fakepg.Hooks{Password: func(*fakepg.Conn) error {
			return &pgconn.PgError{Code: code, Message: "unable to accept connection, access denied"}
		}}
	}
	for _, tt := range []struct {
		name  string
		hooks fakepg.Hooks
	}{
		{"cuts at once", fakepg.Hooks{Accept: func(net.Conn) error { return net.ErrClosed }}},
		{"cuts after the startup message", fakepg.Hooks{Startup: func(*fakepg.Conn) error { return net.ErrClosed }}},
		{"cuts after the password", fakepg.Hooks{Password: func(*fakepg.Conn) error { return net.ErrClosed }}},
		{"presents a wrong certificate", fakepg.Hooks{TLS: &tls.Config{Certificates: []tls.Certificate{wrong}}}},
		{"answers 08006", refuse("08006")},
		{"answers 28000", refuse("28000")},
		{"answers 53300", refuse("53300")},
		{"answers 53400", refuse("53400")},
	} {
		for _, where := range []string{"PGHOST on TCP", "PGHOST as socket directory"} {
			t.Run(tt.name+", "+where, func(t *testing.T) {
				tcp, socketDir, silent := trap(t)
				trapHost, trapPort, err := net.SplitHostPort(tcp)
				require.NoError(t, err)
				if where == "PGHOST on TCP" {
					t.Setenv("PGHOST", trapHost)
					t.Setenv("PGPORT", trapPort)
				} else {
					t.Setenv("PGHOST", socketDir)
				}
				t.Setenv("PGSSLMODE", "prefer")
				s, opts := harness.Start(t, tt.hooks)
				require.Error(t, harness.Ping(t, harness.NewPool(t, opts...)))
				require.Positive(t, s.Accepted())
				require.LessOrEqual(t, len(s.Conns()), 1, "it is not tried again either")
				silent()
			})
		}
	}
}

func TestUnreadablePGSERVICEIsNamed(t *testing.T) {
	for name, file := range map[string]string{"no file": "/nope", "not in the file": "/dev/null"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PGSERVICE", "missing")
			t.Setenv("PGSERVICEFILE", file)
			_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials))
			require.ErrorContains(t, err, `dsql: the environment variable PGSERVICE is "missing"`)
			require.ErrorContains(t, err, "unset PGSERVICE")
			var parse *pgconn.ParseConfigError
			require.ErrorAs(t, err, &parse)
		})
	}
}
