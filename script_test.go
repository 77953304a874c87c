package dsql_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	script "github.com/go-dsql/dsql/internal/fakepg"
)

const (
	clusterID = "abcdefghijklmnopqrstuvwxyz"
	host      = clusterID + ".dsql.us-east-1.on.aws"
	accessKey = "AKIAIOSFODNN7EXAMPLE"
	secretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var someCredentials = credentials.NewStaticCredentialsProvider(accessKey, secretKey, "")

// startScript runs a scripted server that has host's certificate unless hooks
// says otherwise, and returns the options that lead there.
func startScript(t *testing.T, hooks script.Hooks) (*script.Server, []dsql.Option) {
	t.Helper()
	cert, pool := script.Certificate(t, host)
	if hooks.TLS == nil {
		hooks.TLS = &tls.Config{}
	}
	if hooks.TLS.Certificates == nil {
		hooks.TLS.Certificates = []tls.Certificate{cert}
	}
	if hooks.TLS.NextProtos == nil {
		hooks.TLS.NextProtos = []string{"postgresql"}
	}
	s := script.Start(t, hooks)
	return s, []dsql.Option{
		dsql.WithRootCAs(pool),
		dsql.WithCredentials(someCredentials),
		dsql.WithDialFunc(dialTo(s.Addr)),
	}
}

func dialTo(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}

func newPool(t *testing.T, opts ...dsql.Option) *pgxpool.Pool {
	t.Helper()
	pool, err := dsql.NewPool(t.Context(), host, "", opts...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// ping connects within a time that only a hang exceeds.
func ping(t *testing.T, pool *pgxpool.Pool) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return pool.Ping(ctx)
}

func with(opts []dsql.Option, more ...dsql.Option) []dsql.Option {
	return append(append([]dsql.Option(nil), opts...), more...)
}
