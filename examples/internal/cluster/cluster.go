// Package cluster opens the cluster that the examples use: the one that
// DSQL_ENDPOINT names, or a local one that ends with the program.
package cluster

import (
	"context"
	"fmt"
	"os"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

// Cluster is what a program needs to know to connect.
type Cluster struct {
	Endpoint  string
	Region    string
	Options   []dsql.Option // none for a real cluster
	Principal string        // ARN of the IAM role that the credentials belong to
	local     *dsqltest.Cluster
}

// Open names the real cluster of DSQL_ENDPOINT (and DSQL_REGION, for a bare
// cluster ID; DSQL_PRINCIPAL is its user's ARN), or starts a local one.
func Open(ctx context.Context) (*Cluster, error) {
	if endpoint := os.Getenv("DSQL_ENDPOINT"); endpoint != "" {
		return &Cluster{Endpoint: endpoint, Region: os.Getenv("DSQL_REGION"), Principal: os.Getenv("DSQL_PRINCIPAL")}, nil
	}
	local, err := dsqltest.Run(ctx)
	if err != nil {
		return nil, fmt.Errorf("starting a local cluster: %w", err)
	}
	return &Cluster{
		Endpoint:  local.Endpoint(),
		Region:    local.Region(),
		Options:   local.Options(),
		Principal: local.Principal(),
		local:     local,
	}, nil
}

// Close ends a local cluster, and leaves a real one alone.
func (c *Cluster) Close() error {
	if c.local == nil {
		return nil
	}
	return c.local.Close()
}
