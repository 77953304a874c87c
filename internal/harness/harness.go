// Package harness opens package dsql's clients on a scripted server, for tests.
package harness

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/fakepg"
)

// The cluster that the scripted server stands for, and AWS's own example of a key.
const (
	ClusterID = "abcdefghijklmnopqrstuvwxyz"
	Host      = ClusterID + ".dsql.us-east-1.on.aws"
	AccessKey = "AKIAIOSFODNN7EXAMPLE"
	SecretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

// Credentials are static, of AccessKey and SecretKey.
var Credentials = credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, "")

// Start runs a scripted server that presents Host's certificate unless hooks says otherwise, and
// returns the options that connect to it: root CAs, credentials and a dial function, in this order.
func Start(t testing.TB, hooks fakepg.Hooks) (*fakepg.Server, []dsql.Option) {
	t.Helper()
	cert, pool := fakepg.Certificate(t, Host)
	if hooks.TLS == nil {
		hooks.TLS = &tls.Config{}
	}
	if hooks.TLS.Certificates == nil {
		hooks.TLS.Certificates = []tls.Certificate{cert}
	}
	if hooks.TLS.NextProtos == nil {
		hooks.TLS.NextProtos = []string{"postgresql"}
	}
	s := fakepg.Start(t, hooks)
	return s, []dsql.Option{
		dsql.WithRootCAs(pool),
		dsql.WithCredentials(Credentials),
		dsql.WithDialFunc(DialTo(s.Addr)),
	}
}

// DialTo returns a dial function that dials address, whatever its arguments.
func DialTo(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}

// NewPool opens a pool on Host that is closed with the test.
func NewPool(t testing.TB, opts ...dsql.Option) *pgxpool.Pool {
	t.Helper()
	pool, err := dsql.NewPool(t.Context(), Host, "", opts...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// ClusterPool opens a pool on a local cluster that is closed with the test.
func ClusterPool(t testing.TB, c *dsqltest.Cluster, opts ...dsql.Option) *pgxpool.Pool {
	t.Helper()
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// Ping connects within a time that only a hang exceeds.
func Ping(t testing.TB, pool *pgxpool.Pool) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return pool.Ping(ctx)
}

// With returns opts and more in a slice of its own.
func With(opts []dsql.Option, more ...dsql.Option) []dsql.Option {
	return append(append([]dsql.Option(nil), opts...), more...)
}

// Secrets must never be printed.
var Secrets = []string{SecretKey, "the-session-token", "X-Amz-Signature", "X-Amz-Security-Token"}

// VPCEndpoint is a VPC endpoint's own name.
const VPCEndpoint = "vpce-0a1b2c3d-4e5f.dsql-fnh4.us-east-1.vpce.amazonaws.com"

// Provider returns a provider and the count of its calls; f is told which call it is.
func Provider(f func(ctx context.Context, call int64) (aws.Credentials, error)) (aws.CredentialsProvider, *atomic.Int64) {
	calls := new(atomic.Int64)
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		return f(ctx, calls.Add(1))
	}), calls
}

// Expiring returns temporary credentials that expire after in.
func Expiring(in time.Duration) aws.Credentials {
	return aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: SecretKey, SessionToken: "session", Source: "test", CanExpire: true, Expires: time.Now().Add(in)}
}
