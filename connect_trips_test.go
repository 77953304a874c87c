package dsql_test

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/occ"
)

// A pool, a single connection and database/sql connect in the same three round trips, after TCP's:
// checks, hooks and the proof of the server's identity add none.
func TestEveryClientConnectsInThreeRoundTrips(t *testing.T) {
	server, opts := harness.Start(t, fakepg.Hooks{})
	trips := new(tripCounter)
	dial := harness.DialTo(server.Addr)
	opts = append(opts, dsql.WithDialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return tripConn{conn, trips}, err
	}))
	for name, connect := range map[string]func(){
		"NewPool": func() {
			conn, err := harness.NewPool(t, opts...).Acquire(t.Context())
			require.NoError(t, err)
			conn.Release()
		},
		"Connect": func() {
			conn, err := dsql.Connect(t.Context(), host, "", opts...)
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
		},
		"OpenDB": func() {
			db, err := dsql.OpenDB(t.Context(), host, "", opts...)
			require.NoError(t, err)
			t.Cleanup(func() { db.Close() })
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			require.NoError(t, conn.Close())
		},
	} {
		require.Equal(t, 3, trips.of(connect), name)
	}
}

// BEGIN travels with the first statement on the pools of this library, whose own tracer does not
// count as one.
func TestBeginTravelsOnOurPools(t *testing.T) {
	server, opts := harness.Start(t, fakepg.Hooks{Session: new(fakepg.SQL).Session})
	pool := harness.NewPool(t, opts...)
	run := func() {
		require.NoError(t, occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "update t set n = $1", 1)
			return err
		}))
	}
	run() // connects and prepares
	before := server.Trips()
	run()
	require.Equal(t, 2, server.Trips()-before)
}
