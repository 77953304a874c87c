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

func TestHostAddr(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ hostaddr, port, want string }{
		{"", "", ""},
		{"", "5432", ""},
		{"127.0.0.1", "", "127.0.0.1:5432"},
		{"127.0.0.1", "6432", "127.0.0.1:6432"},
		{"::1", "", "[::1]:5432"},
		{"fe80::1%eth0", "6432", "[fe80::1%eth0]:6432"},
	} {
		got, err := endpoint.ParseHostAddr(tt.hostaddr, tt.port)
		require.NoError(t, err, tt)
		require.Equal(t, tt.want, got, tt)
	}
	for _, tt := range []struct{ hostaddr, port, want string }{
		{"", "6432", "dsql: the URL's port is 6432 and must be 5432, unless hostaddr names another address to dial"},
		{"127.0.0.1", "0", `dsql: the URL's port is "0": must be a number from 1 to 65535`},
		{"127.0.0.1", "65536", `dsql: the URL's port is "65536": must be a number from 1 to 65535`},
		{"localhost", "", `dsql: the URL's hostaddr is "localhost": must be an IP address`},
		{"localhost", "x", `dsql: the URL's port is "x": must be a number from 1 to 65535`},
		{"127.0.0.1:6432", "", `dsql: the URL's hostaddr is "127.0.0.1:6432": must be an IP address`},
	} {
		_, err := endpoint.ParseHostAddr(tt.hostaddr, tt.port)
		require.EqualError(t, err, tt.want, tt)
	}
}
