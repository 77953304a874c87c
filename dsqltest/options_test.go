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

func TestOptionsRefuse(t *testing.T) {
	for want, opt := range map[string]Option{
		"option 1 is nil":                          nil,
		`WithListenAddress("5432"): must be host`:  WithListenAddress("5432"),
		`WithClusterID("short"): must be 26 chara`: WithClusterID("short"),
		`WithClusterID("ABCDEFGHIJKLMNOPQRSTUVWX`:  WithClusterID("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
		"WithCredentials: each key must be":        WithCredentials("AKIA", ""),
		"WithCredentials: each":                    WithCredentials("", "secret"),
		"WithCredentials: ":                        WithCredentials("AKIA", "two\nlines"),
		`the region "mars" is not`:                 WithRegion("mars"),
		"WithConnectionLimit(0): must be 1":        WithConnectionLimit(0),
	} {
		_, err := Run(t.Context(), opt)
		require.ErrorContains(t, err, want)
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
