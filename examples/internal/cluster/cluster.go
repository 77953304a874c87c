// Package cluster opens the cluster that the examples use: the one that DSQL_ENDPOINT names, or a
// local one that ends with the program.
package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

// Cluster holds what a program needs to connect.
type Cluster struct {
	Endpoint  string
	Region    string
	Options   []dsql.Option // none for a real cluster
	Principal string        // ARN of the IAM role that the credentials belong to
	local     *dsqltest.Cluster
}

// Open returns the cluster that DSQL_ENDPOINT names, or starts a local one. A bare cluster ID needs
// DSQL_REGION; DSQL_PRINCIPAL is the ARN of the IAM role.
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

// Close stops a local cluster. It does nothing to a real one.
func (c *Cluster) Close() error {
	if c.local == nil {
		return nil
	}
	return c.local.Close()
}

// Fatal prints err and what to do about it, and exits.
func Fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	if text := dsql.Explain(err); !strings.Contains(err.Error(), text) {
		fmt.Fprintf(os.Stderr, "\n%s\n", text)
	}
	os.Exit(1)
}
