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

func TestFromEnvValidatesAsParseURL(t *testing.T) {
	set := func(endpoint, region, user, profile string) (dsql.Config, error) {
		t.Setenv("DSQL_ENDPOINT", endpoint)
		t.Setenv("DSQL_REGION", region)
		t.Setenv("DSQL_USER", user)
		t.Setenv("DSQL_PROFILE", profile)
		return dsql.FromEnv()
	}
	got, err := set(" "+host+":5432\n", "us-east-1\n", "app", "dev\n")
	require.NoError(t, err)
	require.Equal(t, dsql.Config{Endpoint: host, Region: "us-east-1", User: "app", Profile: "dev"}, got)
	for _, tt := range []struct{ endpoint, region, user, want string }{
		{"https://" + host, "", "", "use the host name alone"},
		{host, "eu-west-1", "", `contradicts the endpoint`},
		{host, "mars", "", `invalid region "mars"`},
		{host, "", "Admin", `did you mean "admin"?`},
		{host, "", " admin", `did you mean "admin"?`},
		{"[::1]:5432", "us-east-1", "", `the endpoint "[::1]:5432" is an address`},
	} {
		got, err := set(tt.endpoint, tt.region, tt.user, "")
		require.ErrorContains(t, err, tt.want)
		require.Zero(t, got)
	}
}
