package dsql_test

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestDialAddressOnlyRoutesTCP(t *testing.T) {
	canceled := make(chan struct{}, 1)
	s, opts := harness.Start(t, fakepg.Hooks{Cancel: func(uint32, uint32) { canceled <- struct{}{} }})
	conn, err := dsql.Connect(t.Context(), host, "", harness.With(opts[:2], dsql.WithDialAddress(s.Addr))...)
	require.NoError(t, err)
	require.NoError(t, conn.PgConn().CancelRequest(t.Context()), "cancel requests go there too")
	<-canceled
	require.NoError(t, conn.Close(t.Context()))
	c := s.Conns()[0]
	require.Equal(t, host, c.TLS.ServerName)
	require.Equal(t, map[string]string{"user": "admin", "database": "postgres", "application_name": dsql.ApplicationName}, c.Parameters)
	signedHost, _ := parseToken(t, c.Password)
	require.Equal(t, host, signedHost)
}

func TestDialAddressIsRefused(t *testing.T) {
	for address, want := range map[string]string{
		"":                       "must be a host name or an IP address",
		" ":                      "must be a host name or an IP address",
		":5432":                  "must be a host name or an IP address",
		"bastion:":               "must be a host name or an IP address",
		"bastion:0":              "must be a host name or an IP address",
		"bastion:65536":          "must be a host name or an IP address",
		"bastion:pg":             "must be a host name or an IP address",
		"bastion/x":              "must be a host name or an IP address",
		"a,b":                    "must be a host name or an IP address",
		"a b":                    "must be a host name or an IP address",
		"[::1":                   "must be a host name or an IP address",
		"::1:2:3:x":              "must be a host name or an IP address",
		"ssh://bastion:22":       "must be a host name or an IP address",
		"user:hunter2@bastion:1": "not shown",
	} {
		_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dsql.WithDialAddress(address))
		require.ErrorContains(t, err, want, address)
		require.NotContains(t, err.Error(), "hunter2")
		if address != "" {
			_, err = dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, DialAddress: address})
			require.ErrorContains(t, err, want, address)
		}
	}
	_, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, DialAddress: "127.0.0.1", DialFunc: harness.DialTo("127.0.0.1:1")})
	require.ErrorContains(t, err, "dsql: DialAddress and DialFunc are mutually exclusive")
}

func TestTheLastOfDialAddressAndDialFuncWins(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	nowhere := dsql.WithDialFunc(func(context.Context, string, string) (net.Conn, error) { return nil, errDialed })
	for _, last := range []dsql.Option{dsql.WithDialAddress(s.Addr), dsql.WithDialFunc(harness.DialTo(s.Addr))} {
		require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, nowhere, last)...)))
		require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(opts[:2], dsql.WithDialAddress("192.0.2.1"), last)...)))
	}
	require.Len(t, s.Conns(), 4)
}

func TestVPCEndpointGetsTheClusterID(t *testing.T) {
	for _, tt := range []struct {
		name, options, want string
	}{
		{"alone", "", "-c amzn-cluster-id=" + harness.ClusterID},
		{"with the caller's options", `-c timezone=Etc/\ UTC`, `-c timezone=Etc/\ UTC -c amzn-cluster-id=` + harness.ClusterID},
		{"that the caller has named already", "-c amzn-cluster-id=x", "-c amzn-cluster-id=x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var opts []dsql.Option
			if tt.options != "" {
				opts = append(opts, dsql.WithRuntimeParam("options", tt.options))
			}
			params := wireOfVPCEndpoint(t, opts...)
			require.Equal(t, tt.want, params["options"])
			require.Equal(t, dsql.ApplicationName, params["application_name"])
		})
	}
	t.Run("though a pool function took all parameters away", func(t *testing.T) {
		params := wireOfVPCEndpoint(t, dsql.WithPoolConfig(func(p *pgxpool.Config) error { p.ConnConfig.RuntimeParams = nil; return nil }))
		require.Equal(t, "-c amzn-cluster-id="+harness.ClusterID, params["options"])
	})
	_, err := dsql.NewPool(t.Context(), "db.example.com", "us-east-1", dsql.WithCredentials(harness.Credentials), dsql.WithDialAddress(harness.VPCEndpoint))
	require.ErrorContains(t, err, `dsql: the dial address is a VPC endpoint's, and the cluster's ID cannot be inferred from the endpoint "db.example.com"`)
}

// wireOfVPCEndpoint connects as through a VPC endpoint, which no DNS knows here,
// and returns the startup parameters.
func wireOfVPCEndpoint(t *testing.T, more ...dsql.Option) map[string]string {
	t.Helper()
	s, opts := harness.Start(t, fakepg.Hooks{})
	pool := harness.NewPool(t, harness.With(opts[:2], harness.With(more, dsql.WithDialAddress(harness.VPCEndpoint), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.DialFunc = harness.DialTo(s.Addr)
		return nil
	}))...)...)
	require.NoError(t, harness.Ping(t, pool))
	c := s.Conns()[0]
	require.Equal(t, host, c.TLS.ServerName)
	signedHost, _ := parseToken(t, c.Password)
	require.Equal(t, host, signedHost, "the token is signed for the cluster's own name")
	return c.Parameters
}
