package dsqltest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func newPool(tb testing.TB, c *Cluster, opts ...dsql.Option) *pgxpool.Pool {
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

// signToken is rightly signed for role, then for what change makes of it.
func signToken(t *testing.T, c *Cluster, role string, change ...func(*request)) string {
	t.Helper()
	r := request{
		host:    c.Endpoint(),
		query:   url.Values{"Action": {actionOf(role)}, "X-Amz-Expires": {"900"}},
		service: "dsql",
		region:  c.Region(),
		creds:   c.credentials(),
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

func roots(c *Cluster) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CertPEM())
	return pool
}

// pgConfig is for a client that does not come from this module.
func pgConfig(t *testing.T, c *Cluster, user, password string) *pgconn.Config {
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

// login opens a session, or returns the error.
func login(t *testing.T, cfg *pgconn.Config) (*pgconn.PgConn, error) {
	t.Helper()
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

// requireRefusal is for what the client was told.
func requireRefusal(t *testing.T, err error, code, message string) *pgconn.PgError {
	t.Helper()
	var refusal *pgconn.PgError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "FATAL", refusal.Severity)
	require.Equal(t, code, refusal.Code)
	require.Equal(t, message, refusal.Message)
	return refusal
}

// dialTLS begins TLS at once, with the endpoint as SNI, unless changed.
func dialTLS(t *testing.T, c *Cluster, change ...func(*tls.Config)) (*tls.Conn, error) {
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

// wire is a client that speaks message by message.
type wire struct {
	t *testing.T
	*tls.Conn
	*pgproto3.Frontend
}

func dialWire(t *testing.T, c *Cluster, change ...func(*tls.Config)) wire {
	t.Helper()
	conn, err := dialTLS(t, c, change...)
	require.NoError(t, err)
	return wire{t, conn, pgproto3.NewFrontend(conn, conn)}
}

// packet is a startup message: its version, then names and values.
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

// requireFatal is for the refusal, and that nothing comes after it.
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

// requireReason is for what the test's author is told.
func requireReason(t *testing.T, c *Cluster, reason string) Refusal {
	t.Helper()
	refusal, ok := c.LastRefusal()
	require.True(t, ok)
	require.Contains(t, refusal.Reason, reason)
	return refusal
}
