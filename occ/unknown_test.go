package occ_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

func TestTransferIsMadeOnceWhenCommitIsCut(t *testing.T) {
	for name, when := range map[string]dsqltest.CommitCut{"before it is applied": dsqltest.BeforeApplied, "after it is applied": dsqltest.AfterApplied} {
		t.Run(name, func(t *testing.T) {
			cluster := dsqltest.Start(t)
			pool, err := dsql.NewPool(t.Context(), cluster.Endpoint(), "", cluster.Options()...)
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

			cluster.CutAtCommit(when)
			require.NoError(t, transfer(t.Context(), pool, "request-1", 30))
			require.NoError(t, transfer(t.Context(), pool, "request-1", 30), "a second call changes nothing")
			var balance, transfers int
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT (SELECT balance FROM account), (SELECT count(*) FROM transfer)").Scan(&balance, &transfers))
			require.Equal(t, 70, balance)
			require.Equal(t, 1, transfers)
			require.GreaterOrEqual(t, cluster.Stats().Connects, 2, "the first connection was cut")
		})
	}
}
