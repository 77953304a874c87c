package otel_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	dsqlotel "github.com/go-dsql/dsql/otel"
)

// recorder is a Telemetry with what it has recorded.
type recorder struct {
	*dsqlotel.Telemetry
	metrics *metric.ManualReader
	spans   *tracetest.InMemoryExporter
}

func record(t *testing.T, opts ...dsqlotel.Option) *recorder {
	t.Helper()
	r := &recorder{metrics: metric.NewManualReader(), spans: tracetest.NewInMemoryExporter()}
	tel, err := dsqlotel.New(append([]dsqlotel.Option{
		dsqlotel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(r.metrics))),
		dsqlotel.WithTracerProvider(trace.NewTracerProvider(trace.WithSyncer(r.spans))),
	}, opts...)...)
	require.NoError(t, err)
	r.Telemetry = tel
	return r
}

func (r *recorder) collect(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, r.metrics.Collect(t.Context(), &all))
	byName := make(map[string]metricdata.Metrics)
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			byName[m.Name] = m
		}
	}
	return byName
}

// sum returns the total, or a histogram's count, of the points of a metric that have all of some
// attributes, each key=value.
func (r *recorder) sum(t *testing.T, name string, with ...string) float64 {
	t.Helper()
	var total float64
	add := func(set attribute.Set, value float64) {
		for _, want := range with {
			key, value, _ := strings.Cut(want, "=")
			if got, _ := set.Value(attribute.Key(key)); got.String() != value {
				return
			}
		}
		total += value
	}
	switch data := r.collect(t)[name].Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Value))
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Count))
		}
	case metricdata.Histogram[int64]: // what was counted, not how often
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Sum))
		}
	}
	return total
}

func open(t *testing.T, c *dsqltest.Cluster, opts ...dsql.Option) *pgxpool.Pool {
	t.Helper()
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func createTable(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	_, err := pool.Exec(t.Context(), "CREATE TABLE n (id int PRIMARY KEY)")
	require.NoError(t, err)
}

func insert(id int) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO n VALUES ($1)", id)
		return err
	}
}

// events returns the attributes of a span's events.
func events(span tracetest.SpanStub) (all []map[string]string) {
	for _, e := range span.Events {
		m := make(map[string]string)
		for _, a := range e.Attributes {
			if a.Key != "dsql.attempt.delay" {
				m[string(a.Key)] = a.Value.String()
			}
		}
		all = append(all, m)
	}
	return all
}

func (noTurn) Wait(context.Context) error { return errors.New("none") }

func TestPoolGauges(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option(), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns = 2
		return nil
	}))
	registration, err := r.RecordPool(pool)
	require.NoError(t, err)
	a, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	b, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	a.Release()
	at := "server.address=" + c.Endpoint()
	require.Eventually(t, func() bool { return pool.Stat().IdleConns() == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.count", at, "db.client.connection.state=used"))
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.count", at, "db.client.connection.state=idle"))
	require.Equal(t, 2.0, r.sum(t, "db.client.connection.max", at))
	require.Zero(t, r.sum(t, "db.client.connection.pending_requests", at))

	a, err = pool.Acquire(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = pool.Acquire(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.timeouts", at))
	a.Release()
	b.Release()
	require.NoError(t, registration.Unregister())
	require.NotContains(t, r.collect(t), "db.client.connection.max")

	_, err = r.RecordPool(nil)
	require.ErrorContains(t, err, "otel: RecordPool: the pool must not be nil")
}

// A tracer and a logger of the caller's stay.
func TestTheCallersTracerAndLoggerStay(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	own := new(queries)
	var log strings.Builder
	pool := open(t, c, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.Tracer = own
		return nil
	}), dsql.WithLogger(slog.New(slog.NewTextHandler(&log, nil)).With("k", "v")), r.Option())
	require.NoError(t, r.RunTx(t.Context(), "x", pool, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	}))
	require.Equal(t, []string{"begin", "SELECT 1", "commit"}, own.sql)
	require.Empty(t, log.String()) // its level is Info
	c.RefuseConnections("28000")
	pool.Reset()
	require.Error(t, pool.Ping(t.Context()))
	require.Contains(t, log.String(), "dsql: connect failed")
	require.Contains(t, log.String(), "k=v")
}

type queries struct{ sql []string }

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	q.sql = append(q.sql, data.SQL)
	return ctx
}

func (*queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestOptionsAreChecked(t *testing.T) {
	for _, opt := range []dsqlotel.Option{nil, dsqlotel.WithMeterProvider(nil), dsqlotel.WithTracerProvider(nil)} {
		_, err := dsqlotel.New(opt)
		require.ErrorContains(t, err, "otel: ")
	}
	_, err := dsqlotel.New()
	require.NoError(t, err)
}
