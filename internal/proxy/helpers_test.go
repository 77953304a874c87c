package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/postgres"
	"github.com/go-dsql/dsql/internal/testenv"
)

const (
	testWait = 20 * time.Second
	tick     = 5 * time.Millisecond
)

func TestMain(m *testing.M) {
	testenv.Clear()
	os.Exit(m.Run())
}

// cluster is a proxy with its own database, as in dsqltest.
type cluster struct {
	*Proxy
}

const principal = "arn:aws:iam::123456789012:role/proxy"

// option sets the region of a cluster or adds a role.
type option struct{ region, role string }

func withRegion(region string) option { return option{region: region} }

func withRole(role string) option { return option{role: role} }

func start(tb testing.TB, opts ...option) *cluster {
	tb.Helper()
	server, err := postgres.Start(tb.Context())
	require.NoError(tb, err)
	id := strings.ToLower(rand.Text())
	cfg := Config{
		ID:       id,
		Region:   "us-east-1",
		Server:   server,
		Database: "proxy_" + id,
		Credentials: func() aws.Credentials {
			return aws.Credentials{AccessKeyID: "AKIA" + id[:16], SecretAccessKey: id}
		},
		Principal: principal,
	}
	require.NoError(tb, server.CreateDatabase(tb.Context(), cfg.Database))
	tb.Cleanup(func() { require.NoError(tb, server.DropDatabase(context.Background(), cfg.Database)) })
	for _, o := range opts {
		if o.region != "" {
			cfg.Region = o.region
		}
		if o.role != "" {
			require.NoError(tb, server.Exec(tb.Context(), cfg.Database, "CALL sys.create_role($1, true)", o.role))
			require.NoError(tb, server.Exec(tb.Context(), cfg.Database, "CALL sys.iam_grant($1, $2)", o.role, principal))
		}
	}
	p, err := Start(cfg)
	require.NoError(tb, err)
	tb.Cleanup(p.Close)
	return &cluster{p}
}

func (c *cluster) Region() string { return c.cfg.Region }

func (c *cluster) Options() []dsql.Option {
	provider := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c.cfg.Credentials(), nil })
	return []dsql.Option{dsql.WithRootCAs(roots(c)), dsql.WithDialFunc(c.dial), dsql.WithCredentials(provider)}
}

func (c *cluster) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", c.Address())
}

func newPool(tb testing.TB, c *cluster, opts ...dsql.Option) *pgxpool.Pool {
	tb.Helper()
	pool, err := dsql.NewPool(tb.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

// request is what a client signs.
type request struct {
	host    string
	query   url.Values
	service string
	region  string
	creds   aws.Credentials
	at      time.Time
}

// signToken returns a valid token for role, signed after change has modified the request.
func signToken(t *testing.T, c *cluster, role string, change ...func(*request)) string {
	t.Helper()
	r := request{
		host:    c.Endpoint(),
		query:   url.Values{"Action": {actionOf(role)}, "X-Amz-Expires": {"900"}},
		service: "dsql",
		region:  c.Region(),
		creds:   c.cfg.Credentials(),
		at:      time.Now(),
	}
	for _, f := range change {
		f(&r)
	}
	req, err := http.NewRequest(http.MethodGet, "https://"+r.host+"/?"+r.query.Encode(), nil)
	require.NoError(t, err)
	const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	uri, _, err := v4.NewSigner().PresignHTTP(t.Context(), r.creds, req, emptyPayload, r.service, r.region, r.at)
	require.NoError(t, err)
	return strings.TrimPrefix(uri, "https://")
}

func roots(c *cluster) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CertPEM())
	return pool
}

// pgConfig configures a client that does not use package dsql.
func pgConfig(t *testing.T, c *cluster, user, password string) *pgconn.Config {
	t.Helper()
	cfg, err := pgconn.ParseConfig("host=" + c.Endpoint() + " port=5432 dbname=postgres user=x password='' " +
		"sslmode=verify-full sslnegotiation=direct sslrootcert='' connect_timeout=60")
	require.NoError(t, err)
	cfg.User, cfg.Password = user, password
	cfg.TLSConfig.RootCAs = roots(c)
	cfg.DialFunc = c.dial
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	return cfg
}

// login opens a session.
func login(t *testing.T, cfg *pgconn.Config) (*pgconn.PgConn, error) {
	t.Helper()
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

// requireRefusal checks the error that the client received.
func requireRefusal(t *testing.T, err error, code, message string) *pgconn.PgError {
	t.Helper()
	var refusal *pgconn.PgError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "FATAL", refusal.Severity)
	require.Equal(t, code, refusal.Code)
	require.Equal(t, message, refusal.Message)
	return refusal
}

// dialTLS starts direct TLS, with the endpoint as SNI unless changed.
func dialTLS(t *testing.T, c *cluster, change ...func(*tls.Config)) (*tls.Conn, error) {
	t.Helper()
	raw, err := c.dial(t.Context(), "", "")
	require.NoError(t, err)
	t.Cleanup(func() { raw.Close() })
	require.NoError(t, raw.SetDeadline(time.Now().Add(time.Minute)))
	cfg := &tls.Config{ServerName: c.Endpoint(), RootCAs: roots(c), NextProtos: []string{alpn}}
	for _, f := range change {
		f(cfg)
	}
	conn := tls.Client(raw, cfg)
	return conn, conn.HandshakeContext(t.Context())
}

// wire is a client that sends and receives single messages.
type wire struct {
	t *testing.T
	*tls.Conn
	*pgproto3.Frontend
}

func dialWire(t *testing.T, c *cluster, change ...func(*tls.Config)) wire {
	t.Helper()
	conn, err := dialTLS(t, c, change...)
	require.NoError(t, err)
	return wire{t, conn, pgproto3.NewFrontend(conn, conn)}
}

// packet encodes a startup message: its version, then names and values.
func packet(version uint32, fields ...string) []byte {
	body := binary.BigEndian.AppendUint32(nil, version)
	for _, field := range fields {
		body = append(append(body, field...), 0)
	}
	body = append(body, 0)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

func (w wire) send(bytes []byte) {
	w.t.Helper()
	_, err := w.Conn.Write(bytes)
	require.NoError(w.t, err)
}

// startup sends a startup message of protocol 3.0.
func (w wire) startup(fields ...string) {
	w.t.Helper()
	w.send(packet(pgproto3.ProtocolVersion30, fields...))
}

func (w wire) password(text string) {
	w.t.Helper()
	w.Frontend.Send(&pgproto3.PasswordMessage{Password: text})
	require.NoError(w.t, w.Flush())
}

func (w wire) requirePasswordRequest() {
	w.t.Helper()
	message, err := w.Receive()
	require.NoError(w.t, err)
	require.IsType(w.t, &pgproto3.AuthenticationCleartextPassword{}, message)
}

func (w wire) requireReady() {
	w.t.Helper()
	for {
		message, err := w.Receive()
		require.NoError(w.t, err)
		switch message := message.(type) {
		case *pgproto3.ReadyForQuery:
			return
		case *pgproto3.ErrorResponse:
			require.Fail(w.t, message.Message)
		}
	}
}

// requireFatal checks that the refusal is sent and the connection closed.
func (w wire) requireFatal(code, message string) {
	w.t.Helper()
	answer, err := w.Receive()
	require.NoError(w.t, err)
	refusal, ok := answer.(*pgproto3.ErrorResponse)
	require.Truef(w.t, ok, "%#v", answer)
	require.Equal(w.t, "FATAL", refusal.Severity)
	require.Equal(w.t, "FATAL", refusal.SeverityUnlocalized)
	require.Equal(w.t, code, refusal.Code)
	require.Equal(w.t, message, refusal.Message)
	w.requireClosed()
}

func (w wire) requireClosed() {
	w.t.Helper()
	_, err := w.Receive()
	require.Error(w.t, err)
	require.NotErrorIs(w.t, err, context.DeadlineExceeded)
	var timeout interface{ Timeout() bool }
	require.False(w.t, errors.As(err, &timeout) && timeout.Timeout(), err)
}

// requireReason checks the reason in LastRefusal.
func requireReason(t *testing.T, c *cluster, reason string) Refusal {
	t.Helper()
	refusal, ok := c.LastRefusal()
	require.True(t, ok)
	require.Contains(t, refusal.Reason, reason)
	return refusal
}

// modes are query execution modes that send statements differently.
var modes = []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}

func connect(t *testing.T, c *cluster, opts ...dsql.Option) *pgx.Conn {
	t.Helper()
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// apply executes statements.
func apply(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func requireError(t *testing.T, err error, code, message string) {
	t.Helper()
	var told *pgconn.PgError
	require.ErrorAs(t, err, &told)
	require.Equal(t, code, told.Code, told.Message)
	require.Equal(t, message, told.Message)
}

// beginTwo begins a transaction on each of two connections to a cluster that has a parent and a
// child table, and what more statements create.
func beginTwo(t *testing.T, more ...string) (first, second *pgx.Conn) {
	t.Helper()
	c := start(t)
	setup := connect(t, c)
	apply(t, setup,
		"CREATE TABLE t (id int PRIMARY KEY, n int)",
		"CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t)",
		"INSERT INTO t SELECT i, 0 FROM generate_series(1, 5) i")
	apply(t, setup, more...)
	first, second = connect(t, c), connect(t, c)
	apply(t, first, "BEGIN", "SELECT FROM t")
	apply(t, second, "BEGIN", "SELECT FROM t")
	return first, second
}

// commitWays end a transaction in each protocol.
var commitWays = map[string]func(context.Context, *pgx.Conn) error{
	"simple": func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "/* end */ COMMIT ;")
		return err
	},
	"extended": func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.PgConn().ExecParams(ctx, "COMMIT", nil, nil, nil, nil).Close()
		return err
	},
	"prepared": func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Prepare(ctx, "end", "END TRANSACTION"); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "end")
		return err
	},
}

func newTable(t *testing.T, c *cluster, conns int32) *pgxpool.Pool {
	t.Helper()
	pool := newPool(t, c, dsql.WithPoolConfig(func(p *pgxpool.Config) error { p.MaxConns = conns; return nil }))
	_, err := pool.Exec(t.Context(), "CREATE TABLE t (id int PRIMARY KEY, n int)")
	require.NoError(t, err)
	return pool
}

func countRows(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n))
	return n
}

// execSleep starts a long statement and returns when PostgreSQL executes it.
func execSleep(t *testing.T, c *cluster, conn *pgconn.PgConn) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT pg_sleep(600)").ReadAll()
		done <- err
	}()
	pool := newPool(t, c)
	require.Eventually(t, func() bool {
		var found bool
		err := pool.QueryRow(t.Context(), "SELECT true FROM engine_pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", conn.PID()).Scan(&found)
		return err == nil && found
	}, time.Minute, 5*time.Millisecond)
	return done
}

func dialTCP(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}
