package dsql_test

import (
	"crypto/tls"
	"database/sql"
	"net"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

const tcpUserTimeout = 0x12 // of linux/tcp.h

// The system ends connections to a server that is gone, within the time that docs/configuration.md
// says.
func TestSocketOptions(t *testing.T) {
	server, opts := harness.Start(t, fakepg.Hooks{})
	opts = append(opts, dsql.WithDialAddress(server.Addr))
	for name, opts := range map[string][]dsql.Option{
		"one endpoint": opts,
		"with a peer":  harness.With(opts, dsql.WithFailover(peerHost, "")),
	} {
		t.Run(name+"/pool", func(t *testing.T) {
			conn, err := harness.NewPool(t, opts...).Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			requireSocket(t, conn.Conn())
		})
		t.Run(name+"/Connect", func(t *testing.T) {
			conn, err := dsql.Connect(t.Context(), harness.Host, "", opts...)
			require.NoError(t, err)
			defer conn.Close(t.Context())
			requireSocket(t, conn)
		})
		t.Run(name+"/OpenDB", func(t *testing.T) {
			db, err := dsql.OpenDB(t.Context(), harness.Host, "", opts...)
			require.NoError(t, err)
			defer db.Close()
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			defer func(c *sql.Conn) { require.NoError(t, c.Close()) }(conn)
			require.NoError(t, conn.Raw(func(c any) error {
				requireSocket(t, c.(interface{ Conn() *pgx.Conn }).Conn())
				return nil
			}))
		})
	}
}

func requireSocket(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	under := conn.PgConn().Conn()
	for {
		wrapped, ok := under.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		under = wrapped.NetConn()
	}
	require.IsType(t, &tls.Conn{}, conn.PgConn().Conn())
	raw, err := under.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		for _, o := range []struct {
			name                string
			level, option, want int
		}{
			{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
			{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 5},
			{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
			{"TCP_USER_TIMEOUT", syscall.IPPROTO_TCP, tcpUserTimeout, 30000},
		} {
			got, err := syscall.GetsockoptInt(int(fd), o.level, o.option)
			require.NoError(t, err, o.name)
			require.Equal(t, o.want, got, o.name)
		}
	}))
}
