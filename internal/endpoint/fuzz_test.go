package endpoint_test

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/endpoint"
)

// An endpoint that is accepted is a host name, and parses to itself.
func FuzzParse(f *testing.F) {
	for _, seed := range [][2]string{
		{host, ""}, {host, "us-east-1"}, {clusterID, "us-east-1"}, {clusterID, ""}, {"db.example.com", "eu-west-1"}, {host + ":5432", ""}, {host + ".", ""},
		{clusterID + ".dsql-fnh4.us-east-1.on.aws", ""}, {"arn:aws:dsql:us-east-1:123456789012:cluster/" + clusterID, ""}, {"https://u:p@" + host + "/x", ""},
		{"[::1]:5432", "us-east-1"}, {"10.0.0.1", "us-east-1"}, {" A.dsql..on.aws ", "\x00"}, {"vpce-0a1b.dsql-fnh4.us-east-1.vpce.amazonaws.com", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, given, region string) {
		parsed, err := endpoint.Parse(given)
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "dsql: "), err)
			return
		}
		e, err := parsed.In(region)
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "dsql: "), err)
			return
		}
		require.True(t, endpoint.IsRegion(e.Region), e.Region)
		require.NotEmpty(t, e.Host)
		require.Nil(t, net.ParseIP(e.Host))
		require.False(t, strings.ContainsAny(e.Host, " /:@?#,\x00\n"), "%q", e.Host)
		again, err := endpoint.Parse(e.Host)
		require.NoError(t, err)
		again, err = again.In(e.Region)
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}

// A dial address that is accepted is a host and a port, and parses to itself.
func FuzzParseDialAddress(f *testing.F) {
	for _, seed := range []string{
		"localhost", "localhost:5432", "10.0.0.1", "[::1]", "[::1]:15432", "::1", "fe80::1%eth0", "host:0", "host:65536", ":5432", "a b", "u:p@host:1", "vpce-1.dsql-x.us-east-1.vpce.amazonaws.com", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		address, err := endpoint.ParseDialAddress(given)
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "dsql: "), err)
			return
		}
		host, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		require.NotEmpty(t, host)
		require.NotEmpty(t, port)
		again, err := endpoint.ParseDialAddress(address)
		require.NoError(t, err, address)
		require.Equal(t, address, again)
	})
}
