//go:build linux

package explain_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestExplainNoRoute(t *testing.T) {
	// Linux has no route for TCP to the broadcast address, whatever the network.
	err := harness.Ping(t, harness.NewPool(t, dsql.WithCredentials(harness.Credentials), dsql.WithDialAddress("255.255.255.255")))
	require.ErrorIs(t, err, syscall.ENETUNREACH)
	requireExplained(t, err, "no route", "IPv6")
}
