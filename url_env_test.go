package dsql_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func TestFromEnv(t *testing.T) {
	for name, value := range map[string]string{
		"DSQL_ENDPOINT": host, "DSQL_REGION": "us-east-1", "DSQL_USER": "app", "DSQL_PROFILE": "dev",
		"AWS_REGION": "eu-west-1", "AWS_PROFILE": "other",
	} {
		t.Setenv(name, value)
	}
	cfg, err := dsql.FromEnv()
	require.NoError(t, err)
	require.Equal(t, dsql.Config{Endpoint: host, Region: "us-east-1", User: "app", Profile: "dev"}, cfg)

	for _, name := range []string{"DSQL_REGION", "DSQL_USER", "DSQL_PROFILE"} {
		t.Setenv(name, "")
	}
	cfg, err = dsql.FromEnv()
	require.NoError(t, err)
	require.Equal(t, dsql.Config{Endpoint: host}, cfg)

	for _, blank := range []string{"", "  "} {
		t.Setenv("DSQL_ENDPOINT", blank)
		_, err = dsql.FromEnv()
		require.ErrorContains(t, err, "dsql: the environment variable DSQL_ENDPOINT is not set: use <cluster ID>.dsql.<region>.on.aws")
	}
}
