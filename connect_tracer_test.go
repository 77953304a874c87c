package dsql_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// queryCounter counts the queries that it traces.
type queryCounter struct{ n int }

func (q *queryCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.n++
	return ctx
}

func (q *queryCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A caller's tracer that calls the one which is there last traces queries, and so does the one that
// WithPoolConfig set.
func TestTracerAroundTheLastOneTracesQueries(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{})
	inner, outer := new(queryCounter), new(queryCounter)
	opts = harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.Tracer = inner
		return nil
	}))
	cc := connConfig(t, opts)
	cc.Tracer = multitracer.New(outer, cc.Tracer)
	conn, err := pgx.ConnectConfig(t.Context(), cc)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, _ = conn.Exec(t.Context(), "-- ping")
	require.Equal(t, 1, outer.n)
	require.Equal(t, 1, inner.n)
}
