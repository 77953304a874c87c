package dsql_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

// cutter is a connection that is cut at its first COMMIT, before it is sent on or
// after the server has carried it out.
type cutter struct {
	net.Conn
	after bool
	armed *atomic.Bool
}

func (c cutter) Write(b []byte) (int, error) {
	if !bytes.Contains(b, []byte("commit\x00")) || !c.armed.CompareAndSwap(true, false) {
		return c.Conn.Write(b)
	}
	defer c.Close()
	if c.after {
		if _, err := c.Conn.Write(b); err != nil {
			return 0, err
		}
		answer := make([]byte, 64)
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(answer); err != nil {
			return 0, err
		}
	}
	return len(b), nil // the network took it
}

func TestTransferIsMadeOnceWhenCommitIsCut(t *testing.T) {
	for name, after := range map[string]bool{"before it arrives": false, "after it was applied": true} {
		t.Run(name, func(t *testing.T) {
			cluster := dsqltest.Start(t)
			var armed atomic.Bool
			pool, err := dsql.NewPool(t.Context(), cluster.Endpoint(), "", append(cluster.Options(),
				dsql.WithPoolConfig(func(p *pgxpool.Config) error {
					p.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
						return cutter{conn, after, &armed}, nil
					}
					return nil
				}))...)
			require.NoError(t, err)
			defer pool.Close()
			for _, statement := range []string{
				"CREATE TABLE account (name text PRIMARY KEY, balance bigint NOT NULL)",
				"CREATE TABLE transfer (request text PRIMARY KEY, amount bigint NOT NULL)",
				"INSERT INTO account VALUES ('alice', 100)",
			} {
				_, err := pool.Exec(t.Context(), statement)
				require.NoError(t, err)
			}

			armed.Store(true)
			require.NoError(t, transfer(t.Context(), pool, "request-1", 30))
			require.False(t, armed.Load(), "a COMMIT was cut")
			require.NoError(t, transfer(t.Context(), pool, "request-1", 30), "a second call changes nothing")
			var balance, transfers int
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT (SELECT balance FROM account), (SELECT count(*) FROM transfer)").Scan(&balance, &transfers))
			require.Equal(t, 70, balance)
			require.Equal(t, 1, transfers)
		})
	}
}
