package endpoint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/endpoint"
)

func TestDialAddressShapes(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1":         "127.0.0.1:5432",
		"127.0.0.1:15432":   "127.0.0.1:15432",
		" 127.0.0.1 ":       "127.0.0.1:5432",
		"::1":               "[::1]:5432",
		"[::1]":             "[::1]:5432",
		"[::1]:15432":       "[::1]:15432",
		"bastion.example":   "bastion.example:5432",
		"bastion.example:9": "bastion.example:9",
	} {
		got, err := endpoint.ParseDialAddress(address)
		require.NoError(t, err, address)
		require.Equal(t, want, got, address)
	}
}

func TestDialAddressIsRefused(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "[", "]", "[]", "[a", "a]", "[a:b]:1", "a:b:1", "host:0", "host:65536", ":5432", "host:", "a b", "user@host", "::%#", "[::%]]"} {
		_, err := endpoint.ParseDialAddress(address)
		require.ErrorContains(t, err, "dsql: the dial address ", address)
	}
}
