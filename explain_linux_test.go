package dsql_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func TestExplainNoRoute(t *testing.T) {
	// Linux has no route for TCP to the broadcast address, whatever the network.
	err := ping(t, newPool(t, dsql.WithCredentials(someCredentials), dsql.WithDialAddress("255.255.255.255")))
	require.ErrorIs(t, err, syscall.ENETUNREACH)
	requireExplained(t, err, "no route", "IPv6")
}
