package dsql_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/harness"
)

// dialed returns which address a connection goes to and what its token was signed
// for, without a server.
func dialed(t *testing.T, endpoint, region string, opts ...dsql.Option) (address, scope string, err error) {
	t.Helper()
	opts = append([]dsql.Option{
		dsql.WithCredentials(harness.Credentials),
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
	_, rest, _ := strings.Cut(query, "X-Amz-Credential="+harness.AccessKey+"%2F")
	return address, strings.Split(rest, "%2F")[1], nil
}

func TestEndpointIsResolved(t *testing.T) {
	t.Setenv("AWS_REGION", "ap-south-1")
	link := harness.ClusterID + ".dsql-fnh4.us-east-1.on.aws"
	for _, tt := range []struct {
		name, endpoint, region string
		wantHost, wantRegion   string
	}{
		{"public name", host, "", host, "us-east-1"},
		{"public name with its region", host, "us-east-1", host, "us-east-1"},
		{"PrivateLink name", link, "", link, "us-east-1"},
		{"region of another partition", harness.ClusterID + ".dsql-abcd.us-gov-west-1.on.aws", "", harness.ClusterID + ".dsql-abcd.us-gov-west-1.on.aws", "us-gov-west-1"},
		{"upper case", strings.ToUpper(host), "", host, "us-east-1"},
		{"final dot", host + ".", "", host, "us-east-1"},
		{"port 5432", host + ":5432", "", host, "us-east-1"},
		{"final dot and port", host + ".:5432", "", host, "us-east-1"},
		{"space around", "\t " + host + " \n", "", host, "us-east-1"},
		{"cluster ID with a region", harness.ClusterID, "eu-west-2", harness.ClusterID + ".dsql.eu-west-2.on.aws", "eu-west-2"},
		{"cluster ID with the region of the environment", harness.ClusterID, "", harness.ClusterID + ".dsql.ap-south-1.on.aws", "ap-south-1"},
		{"own DNS name with a region", "db.example.com", "eu-west-2", "db.example.com", "eu-west-2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, region, err := dialed(t, tt.endpoint, tt.region)
			require.NoError(t, err)
			require.Equal(t, tt.wantHost+":5432", address)
			require.Equal(t, tt.wantRegion, region)
		})
	}
}

func TestEndpointIsRefusedBeforeDialing(t *testing.T) {
	for _, endpoint := range []string{"", "72", "https://" + host, "10.0.0.1", host + ":6432"} {
		_, _, err := dialed(t, endpoint, "us-east-1")
		require.ErrorContains(t, err, "dsql: the endpoint")
	}
}

func TestOwnNameTakesNoRegionFromTheEnvironment(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	_, _, err := dialed(t, "db.example.com", "")
	require.ErrorContains(t, err, "set the region")
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
		_, _, err := dialed(t, endpoint, "")
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, dsql.Config{Endpoint: endpoint}.String(), "hunter2")
	}
}

func TestRegionOfTheAWSConfig(t *testing.T) {
	cfg := aws.Config{Region: "eu-central-1"}
	_, region, err := dialed(t, harness.ClusterID, "", dsql.WithAWSConfig(cfg))
	require.NoError(t, err)
	require.Equal(t, "eu-central-1", region)

	_, region, err = dialed(t, host, "", dsql.WithAWSConfig(cfg))
	require.NoError(t, err)
	require.Equal(t, "us-east-1", region, "the endpoint's name knows better")

	_, _, err = dialed(t, harness.ClusterID, "", dsql.WithAWSConfig(aws.Config{}))
	require.ErrorContains(t, err, "needs a region")
	require.NotContains(t, err.Error(), "AWS_REGION", "which is not read then")
	require.ErrorContains(t, err, "the aws.Config has none")
}
