package endpoint_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/endpoint"
)

const (
	clusterID = "abcdefghijklmnopqrstuvwxyz"
	host      = clusterID + ".dsql.us-east-1.on.aws"
)

func TestEndpointIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, endpoint, region string
		want                   []string // in the error
	}{
		{"empty", "", "", []string{"empty", "<cluster ID>.dsql.<region>.on.aws"}},
		{"blank", "  ", "us-east-1", []string{"empty"}},
		{"scheme", "https://" + host, "", []string{`"https://` + host, "host name alone (" + host + ")"}},
		{"path", host + "/postgres", "", []string{"/postgres", "path"}},
		{"other port", host + ":6432", "", []string{`"6432"`, "5432"}},
		{"port that is no number", host + ":abc", "", []string{"not shown", "5432"}},
		{"ARN of a cluster", "arn:aws:dsql:us-east-1:123456789012:cluster/" + clusterID, "", []string{"ARN", "use " + host}},
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
			e, err := endpoint.Parse(tt.endpoint)
			if err == nil {
				_, err = e.In(tt.region)
			}
			require.Error(t, err)
			require.True(t, strings.HasPrefix(err.Error(), "dsql: "), err)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}
