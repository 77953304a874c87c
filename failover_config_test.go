package dsql_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestNearestFirst(t *testing.T) {
	p := startPair(t, fakepg.Hooks{}, fakepg.Hooks{})
	for region, want := range map[string]string{"us-east-2": peerHost, "us-east-1": host, "eu-west-1": host} {
		t.Setenv("AWS_REGION", region)
		require.Equal(t, want, p.connector(t, dsql.WithNearestFirst()).Endpoints()[0].Endpoint, region)
		require.Equal(t, host, p.connector(t).Endpoints()[0].Endpoint)
	}
	t.Setenv("AWS_REGION", "us-east-2")
	require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(p.opts, dsql.WithNearestFirst())...)))
	require.Zero(t, p.here.Accepted())
	p.requirePeer(t)
}

// The log says where the region of the cluster's own endpoint came from, whichever is preferred.
func TestNearestFirstDoesNotChangeWhereTheRegionCameFrom(t *testing.T) {
	t.Setenv("AWS_REGION", "us-east-2")
	p := startPair(t, fakepg.Hooks{}, fakepg.Hooks{})
	for _, tt := range []struct{ endpoint, region, host, from string }{
		{host, "", host, "endpoint"},
		{harness.ClusterID, "us-east-1", host, "option"},
		{"db.example.com", "us-west-2", "db.example.com", "option"},
	} {
		var log lines
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: tt.endpoint, Region: tt.region},
			harness.With(p.opts, dsql.WithNearestFirst(), log.option())...)
		require.NoError(t, err)
		require.Equal(t, peerHost, c.Endpoints()[0].Endpoint)
		logged := log.all(t)[0]
		require.Equal(t, "dsql: cluster", logged["msg"])
		require.Equal(t, tt.host, logged["endpoint"])
		require.Equal(t, c.Endpoints()[1].Region, logged["region"])
		require.Equal(t, tt.from, logged["region_from"])
	}
}

func TestPeersAreChecked(t *testing.T) {
	for name, tt := range map[string]struct{ endpoint, region, want string }{
		"none":          {"", "", "endpoint"},
		"the same":      {host, "", "given twice"},
		"bare ID":       {harness.ClusterID, "", "needs a region"},
		"contradiction": {peerHost, "us-west-2", "contradicts"},
		"custom name":   {"db.example.com", "", "set the region"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dsql.WithFailover(tt.endpoint, tt.region))
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dsql.WithFailover(peerHost, ""),
		dsql.WithDialAddress(harness.VPCEndpoint))
	require.ErrorContains(t, err, "serves one Region")
}

func TestPeersInAURLAndInTheEnvironment(t *testing.T) {
	want := []dsql.Peer{{Endpoint: peerHost}, {Endpoint: "db.example.com", Region: "us-west-2"}}
	url := "postgres://" + host + "/postgres?failover=" + peerHost + ",db.example.com/us-west-2&nearest_first=true"
	cfg, err := dsql.ParseURL(url)
	require.NoError(t, err)
	require.Equal(t, want, cfg.Failover)
	require.True(t, cfg.NearestFirst)
	again, err := dsql.ParseURL(cfg.URL())
	require.NoError(t, err)
	require.Equal(t, cfg, again)
	for _, query := range []string{"failover=", "failover=" + peerHost + ",", "failover=" + harness.ClusterID, "nearest_first=perhaps"} {
		_, err := dsql.ParseURL("postgres://" + host + "/postgres?" + query)
		require.Error(t, err, query)
	}

	t.Setenv("DSQL_ENDPOINT", host)
	t.Setenv("DSQL_FAILOVER", peerHost+", db.example.com/us-west-2")
	cfg, err = dsql.FromEnv()
	require.NoError(t, err)
	require.Equal(t, want, cfg.Failover)
	t.Setenv("DSQL_FAILOVER", "mars")
	_, err = dsql.FromEnv()
	require.ErrorContains(t, err, "DSQL_FAILOVER")
}
