package dsqltest_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

func TestCitiesOfTheSchema(t *testing.T) {
	c := dsqltest.Start(t)
	dsqltest.Schema(t, c, os.DirFS("testdata/schema"))
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	defer pool.Close()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM city").Scan(&n))
	require.Equal(t, 2, n)
	_, err = pool.Exec(t.Context(), "INSERT INTO city (name) VALUES ('Quito')")
	require.ErrorContains(t, err, "23505")
}
