package explain_test

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestExplainThatAllEndpointsFailed(t *testing.T) {
	const peer = "zyxwvutsrqponmlkjihgfedcba.dsql.us-east-2.on.aws"
	err := harness.Ping(t, harness.NewPool(t, dsql.WithCredentials(harness.Credentials), dsql.WithFailover(peer, ""),
		dsql.WithDialFunc(func(_ context.Context, _, address string) (net.Conn, error) {
			if strings.HasPrefix(address, host) {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		})))
	text := dsql.Explain(err)
	all, rest, _ := strings.Cut(text, " "+host+": ")
	here, there, ok := strings.Cut(rest, " "+peer+": ")
	require.True(t, ok, text)
	require.Contains(t, here, "DNS has no address for "+host)
	require.Contains(t, there, "Nothing listens")
	require.NotContains(t, there, "DNS")
	page, err := os.ReadFile("../../docs/errors.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "\n"+all+"\n")
}
