// Command otel traces statements and records pool metrics with OpenTelemetry, and prints what it
// would export to a collector.
package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		cluster.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	c, err := cluster.Open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	traces, metrics, err := telemetry(out)
	if err != nil {
		return err
	}
	// Flush at the end, even if ctx is done.
	defer func() {
		end := context.WithoutCancel(ctx)
		err = errors.Join(err, traces.Shutdown(end), metrics.Shutdown(end))
	}()

	pool, err := openPool(ctx, c, traces, metrics)
	if err != nil {
		return err
	}
	defer pool.Close()
	// otelpgx traces statements that are part of a trace, such as a request of a service.
	traced, span := traces.Tracer("otel").Start(ctx, "work")
	err = work(traced, pool)
	span.End()
	if err != nil {
		return err
	}
	return metrics.ForceFlush(ctx) // while the pool is open
}

func telemetry(out io.Writer) (*trace.TracerProvider, *metric.MeterProvider, error) {
	spans, err := stdouttrace.New(stdouttrace.WithWriter(out))
	if err != nil {
		return nil, nil, err
	}
	values, err := stdoutmetric.New(stdoutmetric.WithWriter(out))
	if err != nil {
		return nil, nil, err
	}
	return trace.NewTracerProvider(trace.WithBatcher(spans)),
		metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(values))), nil
}

func openPool(ctx context.Context, c *cluster.Cluster, traces *trace.TracerProvider, metrics *metric.MeterProvider) (*pgxpool.Pool, error) {
	tracer := otelpgx.NewTracer(otelpgx.WithTracerProvider(traces), otelpgx.WithMeterProvider(metrics))
	pool, err := dsql.NewPool(ctx, c.Endpoint, c.Region, append(c.Options, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.Tracer = tracer
		return nil
	}))...)
	if err != nil {
		return nil, err
	}
	if err := otelpgx.RecordStats(pool, otelpgx.WithStatsMeterProvider(metrics)); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

func work(ctx context.Context, pool *pgxpool.Pool) error {
	for _, sql := range []string{
		"DROP TABLE IF EXISTS otel_event",
		"CREATE TABLE otel_event (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL)",
	} {
		if err := apply(ctx, pool, sql); err != nil {
			return err
		}
	}
	err := occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO otel_event (name) VALUES ($1)", "started")
		return err
	})
	if err != nil {
		return err
	}
	return apply(ctx, pool, "DROP TABLE otel_event")
}

func apply(ctx context.Context, pool *pgxpool.Pool, ddl string) error {
	return occ.Retry(ctx, func(ctx context.Context) error {
		_, err := pool.Exec(ctx, ddl)
		return err
	})
}
