package dsql_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// dialled tells which address a connection goes to and what its token was signed
// for, without a server.
func dialled(t *testing.T, endpoint, region string, opts ...dsql.Option) (address, scope string, err error) {
	t.Helper()
	opts = append([]dsql.Option{
		dsql.WithCredentials(someCredentials),
		dsql.WithDialFunc(func(_ context.Context, _, addr string) (net.Conn, error) {
			address = addr
			return nil, net.ErrClosed
		}),
	}, opts...)
	cfg := dsql.Config{Endpoint: endpoint, Region: region}
	for _, opt := range opts {
		if err := opt(&cfg); err != nil {
			return "", "", err
		}
	}
	c, err := dsql.NewConnector(t.Context(), cfg)
	if err != nil {
		return "", "", err
	}
	token, err := c.Token(t.Context())
	require.NoError(t, err)
	_, dialErr := dsql.Connect(t.Context(), endpoint, region, opts...)
	require.ErrorIs(t, dialErr, net.ErrClosed)
	signedHost, query, _ := strings.Cut(token, "?")
	require.Equal(t, strings.TrimSuffix(address, ":5432"), signedHost)
	_, rest, _ := strings.Cut(query, "X-Amz-Credential="+accessKey+"%2F")
	return address, strings.Split(rest, "%2F")[1], nil
}

func TestEndpointIsResolved(t *testing.T) {
	t.Setenv("AWS_REGION", "ap-south-1")
	link := clusterID + ".dsql-fnh4.us-east-1.on.aws"
	for _, tt := range []struct {
		name, endpoint, region string
		wantHost, wantRegion   string
	}{
		{"public name", host, "", host, "us-east-1"},
		{"public name with its region", host, "us-east-1", host, "us-east-1"},
		{"PrivateLink name", link, "", link, "us-east-1"},
		{"region of another partition", clusterID + ".dsql-abcd.us-gov-west-1.on.aws", "", clusterID + ".dsql-abcd.us-gov-west-1.on.aws", "us-gov-west-1"},
		{"upper case", strings.ToUpper(host), "", host, "us-east-1"},
		{"final dot", host + ".", "", host, "us-east-1"},
		{"port 5432", host + ":5432", "", host, "us-east-1"},
		{"final dot and port", host + ".:5432", "", host, "us-east-1"},
		{"space around", "\t " + host + " \n", "", host, "us-east-1"},
		{"cluster ID with a region", clusterID, "eu-west-2", clusterID + ".dsql.eu-west-2.on.aws", "eu-west-2"},
		{"cluster ID with the region of the environment", clusterID, "", clusterID + ".dsql.ap-south-1.on.aws", "ap-south-1"},
		{"own DNS name with a region", "db.example.com", "eu-west-2", "db.example.com", "eu-west-2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, region, err := dialled(t, tt.endpoint, tt.region)
			require.NoError(t, err)
			require.Equal(t, tt.wantHost+":5432", address)
			require.Equal(t, tt.wantRegion, region)
		})
	}
}

func TestEndpointIsRefused(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	for _, tt := range []struct {
		name, endpoint, region string
		want                   []string // in the error
	}{
		{"empty", "", "", []string{"empty", "<cluster ID>.dsql.<region>.on.aws"}},
		{"blank", "  ", "us-east-1", []string{"empty"}},
		{"scheme", "https://" + host, "", []string{`"https://` + host, "host name alone (" + host + ")"}},
		{"path", host + "/postgres", "", []string{"/postgres", "path"}},
		{"other port", host + ":6432", "", []string{`"6432"`, "5432"}},
		{"port that is no number", host + ":abc", "", []string{`"abc"`, "5432"}},
		{"ARN of a cluster", "arn:aws:dsql:us-east-1:123456789012:cluster/" + clusterID, "", []string{"ARN", "give " + host}},
		{"other ARN", "arn:aws:rds:us-east-1:123456789012:db:x", "", []string{"ARN", "<cluster ID>"}},
		{"RDS host", "db.abc.us-east-1.rds.amazonaws.com", "us-east-1", []string{"RDS", "<cluster ID>"}},
		{"VPC endpoint's name", "vpce-0a1b.dsql-fnh4.us-east-1.vpce.amazonaws.com", "us-east-1", []string{"VPC endpoint", "WithDialAddress"}},
		{"control plane", "dsql.us-east-1.api.aws", "us-east-1", []string{"control plane"}},
		{"short ID in the name", clusterID[1:] + ".dsql.us-east-1.on.aws", "", []string{"25 characters", "26"}},
		{"long ID in the name", clusterID + "a.dsql.us-east-1.on.aws", "", []string{"27 characters"}},
		{"no region in the name", clusterID + ".dsql.on.aws", "", []string{"not a DSQL cluster's"}},
		{"nonsense for a region in the name", clusterID + ".dsql.example.on.aws", "", []string{`"example"`}},
		{"other service of on.aws", clusterID + ".lambda-url.us-east-1.on.aws", "", []string{"not a DSQL cluster's"}},
		{"25-character ID", clusterID[1:], "us-east-1", []string{"25 characters", "26"}},
		{"27-character ID", clusterID + "a", "us-east-1", []string{"27 characters"}},
		{"upper-case ID", strings.ToUpper(clusterID), "us-east-1", []string{"upper case", clusterID}},
		{"number", "72", "us-east-1", []string{`"72"`, "<cluster ID>"}},
		{"localhost", "localhost", "us-east-1", []string{`"localhost"`, "<cluster ID>"}},
		{"IPv4 address", "10.0.0.1", "us-east-1", []string{"address", "WithDialAddress"}},
		{"IPv4 address and port", "10.0.0.1:5432", "us-east-1", []string{"address", "WithDialAddress"}},
		{"IPv6 address", "[::1]", "us-east-1", []string{"address"}},
		{"all numbers", "1.2.3", "us-east-1", []string{"number"}},
		{"space inside", "db example.com", "us-east-1", []string{"not a host name"}},
		{"empty label", "db..example.com", "us-east-1", []string{"not a host name"}},
		{"two hosts", host + "," + host, "us-east-1", []string{"not a host name"}},
		{"overlong", strings.Repeat("a.", 127) + "com", "us-east-1", []string{"253"}},
		{"region contradicts", host, "eu-west-1", []string{`"eu-west-1"`, `"us-east-1"`}},
		{"region contradicts PrivateLink", clusterID + ".dsql-fnh4.us-east-1.on.aws", "eu-west-1", []string{`"eu-west-1"`, `"us-east-1"`}},
		{"region that is none", host, "US-EAST-1", []string{`"US-EAST-1"`, "us-east-1"}},
		{"cluster ID without a region", clusterID, "", []string{"needs a region", clusterID + ".dsql.<region>.on.aws", "AWS_REGION"}},
		{"own name without a region", "db.example.com", "", []string{"region", "db.example.com"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := dialled(t, tt.endpoint, tt.region)
			require.Error(t, err)
			require.True(t, strings.HasPrefix(err.Error(), "dsql: "), err)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestOwnNameTakesNoRegionFromTheEnvironment(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	_, _, err := dialled(t, "db.example.com", "")
	require.ErrorContains(t, err, "give the region")
}

func TestRefusedEndpointDoesNotShowWhatMayBeSecret(t *testing.T) {
	for _, endpoint := range []string{
		"postgres://admin:hunter2@" + host + "/postgres",
		"postgres://admin:hunter2@[bad",
		"arn:x://admin:hunter2@" + host,
		"arn:hunter2@" + host,
		"host=" + host + " password=hunter2",
		"https://" + host + "?password=hunter2",
		"admin:hunter2@" + host,
		host + "?Action=DbConnect&X-Amz-Signature=hunter2",
		host + "/?Action=DbConnect&X-Amz-Signature=hunter2",
	} {
		_, _, err := dialled(t, endpoint, "")
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, dsql.Config{Endpoint: endpoint}.String(), "hunter2")
	}
}

func TestRegionOfTheAWSConfig(t *testing.T) {
	cfg := aws.Config{Region: "eu-central-1"}
	_, region, err := dialled(t, clusterID, "", dsql.WithAWSConfig(cfg))
	require.NoError(t, err)
	require.Equal(t, "eu-central-1", region)

	_, region, err = dialled(t, host, "", dsql.WithAWSConfig(cfg))
	require.NoError(t, err)
	require.Equal(t, "us-east-1", region, "the endpoint's name knows better")

	_, _, err = dialled(t, clusterID, "", dsql.WithAWSConfig(aws.Config{}))
	require.ErrorContains(t, err, "needs a region")
}
