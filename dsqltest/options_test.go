package dsqltest

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func TestConnectionLimit(t *testing.T) {
	c := Start(t, WithConnectionLimit(2))
	var open []*pgx.Conn
	for range 2 {
		conn, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
		require.NoError(t, err)
		open = append(open, conn)
	}
	_, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
	requireError(t, err, "53300", "Unable to accept connection, too many open connections.")
	require.True(t, dsql.IsConnectLimit(err))
	require.NoError(t, open[0].Close(t.Context()))
	require.Eventually(t, func() bool {
		conn, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
		return err == nil && conn.Close(t.Context()) == nil
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, open[1].Close(t.Context()))
}

func TestOptionsThatAreRefused(t *testing.T) {
	const keys = "WithCredentials: each key must be printable ASCII without spaces, and not empty"
	for _, tt := range []struct {
		opt  Option
		want string
	}{
		{nil, "option 1 is nil"},
		{WithRegion("Ireland"), `WithRegion("Ireland"): must be an AWS Region's name, such as us-east-1`},
		{WithRegion(""), `WithRegion(""): must be an AWS Region's name, such as us-east-1`},
		{WithPeer("mars"), `WithPeer("mars"): must be an AWS Region's name, such as us-east-2`},
		{WithPeer(""), `WithPeer(""): must be an AWS Region's name, such as us-east-2`},
		{WithPeer("us-east-1"), `WithPeer("us-east-1"): must be another Region than the cluster's`},
		{WithListenAddress("5432"), `WithListenAddress("5432"): must be host:port`},
		{WithClusterID("short"), `WithClusterID("short"): must be 26 characters`},
		{WithClusterID("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), `WithClusterID("ABCDEFGHIJKLMNOPQRSTUVWXYZ"): must be 26 characters`},
		{WithCredentials("AKIA", ""), keys},
		{WithCredentials("", "secret"), keys},
		{WithCredentials("AKIA", "two\nlines"), keys},
		{WithRole(""), "WithRole: the name must not be empty"},
		{WithRole("admin"), "WithRole: the role admin always exists"},
		{WithRole("postgres"), `WithRole: the name "postgres" is reserved`},
		{WithRole("pg_monitor"), `WithRole: the name "pg_monitor" is reserved`},
		{WithRole("a\x00b"), `WithRole: invalid name "a\x00b"`},
		{WithConnectionLimit(0), "WithConnectionLimit(0): must be 1 or more"},
		{WithConnectQuota(0, 1), "WithConnectQuota(0, 1): the rate must be"},
		{WithConnectQuota(1, 0), "WithConnectQuota(1, 0): the rate must be"},
	} {
		_, err := Run(t.Context(), tt.opt)
		require.ErrorContains(t, err, "dsqltest: "+tt.want)
	}
}

func TestConnectQuota(t *testing.T) {
	c := Start(t, WithConnectQuota(0.001, 3))
	connect := func() error {
		conn, err := dsql.Connect(t.Context(), c.Endpoint(), "", c.Options()...)
		if err != nil {
			return err
		}
		return conn.Close(t.Context())
	}
	for range 3 {
		require.NoError(t, connect())
	}
	requireError(t, connect(), "53400", "Unable to accept connection, rate exceeded.")
}
