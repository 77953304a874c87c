package dsql

import (
	"errors"
	"os"
	"strings"
)

// FromEnv reads a Config from the environment: DSQL_ENDPOINT (required),
// DSQL_REGION, DSQL_USER and DSQL_PROFILE, which are the fields of [Config] of
// those names. AWS_* variables are the SDK's, which reads them where credentials
// or the region come from it.
func FromEnv() (Config, error) {
	c := Config{
		Endpoint: os.Getenv("DSQL_ENDPOINT"),
		Region:   os.Getenv("DSQL_REGION"),
		User:     os.Getenv("DSQL_USER"),
		Profile:  os.Getenv("DSQL_PROFILE"),
	}
	if strings.TrimSpace(c.Endpoint) == "" {
		return Config{}, errors.New("dsql: the environment variable DSQL_ENDPOINT is not set: " + wantEndpoint)
	}
	return c, nil
}
