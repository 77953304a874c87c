package dsql_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

const peerHost = "zyxwvutsrqponmlkjihgfedcba.dsql.us-east-2.on.aws"

// pair is a scripted cluster with two endpoints.
type pair struct {
	here, there *fakepg.Server
	opts        []dsql.Option // of both, with the peer
}

func startPair(t *testing.T, here, there fakepg.Hooks) pair {
	t.Helper()
	cert, roots := fakepg.Certificate(t, host)
	peerCert, peerRoots := fakepg.Certificate(t, peerHost)
	_ = peerRoots
	roots = roots.Clone()
	leaf := peerCert.Leaf
	require.NotNil(t, leaf)
	roots.AddCert(leaf)
	start := func(hooks fakepg.Hooks, cert tls.Certificate) *fakepg.Server {
		if hooks.TLS == nil {
			hooks.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		}
		hooks.TLS.NextProtos = []string{"postgresql"}
		return fakepg.Start(t, hooks)
	}
	p := pair{here: start(here, cert), there: start(there, peerCert)}
	p.opts = []dsql.Option{
		dsql.WithRootCAs(roots),
		dsql.WithCredentials(harness.Credentials),
		dsql.WithFailover(peerHost, ""),
		dsql.WithDialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			to := map[string]string{host + ":5432": p.here.Addr, peerHost + ":5432": p.there.Addr}[address]
			if to == "" {
				return nil, errors.New("dialed " + address)
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}),
	}
	return p
}
