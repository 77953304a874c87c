package otel_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

func TestConnects(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option())
	require.NoError(t, pool.Ping(t.Context()))
	at := "server.address=" + c.Endpoint()
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", at, "dsql.outcome=ok", "server.port=5432"))
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.create_time", at, "dsql.outcome=ok"))
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.wait_time", at))

	for code, cause := range map[string]string{"53300": "connect_limit", "53400": "connect_limit", "28000": "access_denied"} {
		before := r.sum(t, "dsql.client.connects", at, "error.type="+cause)
		c.RefuseConnections(code)
		_, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), r.Option())...)
		require.Error(t, err)
		require.Equal(t, before+1, r.sum(t, "dsql.client.connects", at, "dsql.outcome=error", "error.type="+cause), code)
	}
	c.Restore()
	c.Cut()
	_, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), r.Option())...)
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", at, "error.type=network"))
	c.Restore()
	_, err = dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), dsql.WithConnectLimiter(noTurn{}), r.Option())...)
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", at, "error.type=connect_rate"))
	_, err = dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), r.Option(), dsql.WithCredentials(aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("none") })))...)
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", at, "error.type=credentials"))
	require.Equal(t, 1.0, r.sum(t, "dsql.client.tokens", at, "dsql.outcome=error", "error.type=credentials"))
}

type noTurn struct{}

func TestConnectsTellTheEndpoint(t *testing.T) {
	c := dsqltest.Start(t, dsqltest.WithPeer("us-east-2"))
	r := record(t)
	pool := open(t, c, dsql.WithFailover(c.Peer().Endpoint(), ""), r.Option())
	require.NoError(t, pool.Ping(t.Context()))
	c.Cut()
	require.Eventually(t, func() bool { return pool.Ping(t.Context()) == nil }, 30*time.Second, time.Millisecond)
	for _, endpoint := range []string{c.Endpoint(), c.Peer().Endpoint()} {
		require.EqualValues(t, 1, r.sum(t, "db.client.connection.create_time", "server.address="+endpoint))
	}
}

func TestCertificatesAreACause(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	cfg := c.Config()
	cfg.RootCAs = nil // the system's, which do not know the cluster's
	connector, err := dsql.NewConnector(t.Context(), cfg, r.Option())
	require.NoError(t, err)
	_, err = connector.Connect(t.Context())
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", "error.type=certificate"))
}

func TestTokensAndCredentials(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	creds, err := c.Config().Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	creds.CanExpire, creds.Expires = true, time.Now().Add(time.Hour)
	pool := open(t, c, dsql.WithCredentials(aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) { return creds, nil })), r.Option())
	require.NoError(t, pool.Ping(t.Context()))
	at := "server.address=" + c.Endpoint()
	require.Equal(t, 2.0, r.sum(t, "dsql.client.tokens", at, "dsql.role=admin", "dsql.outcome=ok")) // one to see that it can be made
	left := r.sum(t, "dsql.client.credentials.remaining", at)
	require.Greater(t, left, 3000.0)
	require.LessOrEqual(t, left, 3600.0)
	require.Positive(t, r.sum(t, "dsql.client.credentials.age", at))
}
