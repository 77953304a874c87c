package dsql_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// callerTracer records what it traces.
type callerTracer struct {
	mu    sync.Mutex
	notes []string
}

func (c *callerTracer) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, what)
}

func (c *callerTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	c.note("connect")
	return ctx
}
func (c *callerTracer) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) { c.note("connected") }
func (c *callerTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c.note("query " + data.SQL)
	return ctx
}
func (c *callerTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *callerTracer) TracePrepareStart(ctx context.Context, _ *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	c.note("prepare " + data.SQL)
	return ctx
}
func (c *callerTracer) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}
func (c *callerTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.note("batch")
	return ctx
}
func (c *callerTracer) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	c.note("in the batch " + data.SQL)
}
func (c *callerTracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {
	c.note("end of the batch")
}
func (c *callerTracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	c.note("copy to " + data.TableName[0])
	return ctx
}
func (c *callerTracer) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {
	c.note("copied")
}
func (c *callerTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	c.note("acquire")
	return ctx
}
func (c *callerTracer) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {
	c.note("acquired")
}

func TestTheCallersTracerIsStillCalled(t *testing.T) {
	sql := &fakepg.SQL{}
	_, opts := harness.Start(t, fakepg.Hooks{Session: sql.Session})
	tracer := new(callerTracer)
	var log lines
	pool := harness.NewPool(t, harness.With(opts, log.option(), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.Tracer = tracer
		return nil
	}))...)
	_, err := pool.Exec(t.Context(), "update t set n = $1", 1)
	require.NoError(t, err)
	require.Equal(t, []string{"acquire", "connect", "connected", "acquired", "query update t set n = $1", "prepare update t set n = $1"}, tracer.notes)
	require.Equal(t, "dsql: connected", log.all(t)[3]["msg"])
}

// A caller's tracer that calls the one which is there last traces everything, and so does the one
// that WithPoolConfig set.
func TestTracerAroundTheLastOneLosesNothing(t *testing.T) {
	for name, inner := range map[string]*callerTracer{"around another": new(callerTracer), "alone": nil} {
		t.Run(name, func(t *testing.T) {
			_, opts := harness.Start(t, fakepg.Hooks{})
			if inner != nil {
				opts = harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
					p.ConnConfig.Tracer = inner
					return nil
				}))
			}
			outer := new(callerTracer)
			cc := connConfig(t, opts)
			cc.Tracer = multitracer.New(outer, cc.Tracer)
			conn, err := pgx.ConnectConfig(t.Context(), cc)
			require.NoError(t, err)
			defer conn.Close(context.WithoutCancel(t.Context()))

			_, err = conn.Exec(t.Context(), "-- ping")
			require.NoError(t, err)
			ended, cancel := context.WithCancel(t.Context()) // events begin, and the server sees none
			cancel()
			_, err = conn.Prepare(ended, "p", "select 1")
			require.Error(t, err)
			_, err = conn.CopyFrom(ended, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows(nil))
			require.Error(t, err)
			batch := new(pgx.Batch)
			batch.Queue("select 2")
			require.Error(t, conn.SendBatch(ended, batch).Close())

			require.Subset(t, outer.notes, []string{"connect", "connected", "query -- ping", "prepare select 1", "copy to t", "batch", "end of the batch"})
			pings := slices.DeleteFunc(slices.Clone(outer.notes), func(note string) bool { return note != "query -- ping" })
			require.Len(t, pings, 1)
			if inner != nil {
				require.Equal(t, outer.notes, inner.notes)
			}
		})
	}
}
