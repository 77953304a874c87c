package otel

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/go-dsql/dsql"
)

// Option returns an option for every constructor of dsql, which counts connects and tokens and
// tells transactions when their first statement begins. A tracer and a logger that earlier options
// set are kept; later ones would replace it, so pass it last.
func (t *Telemetry) Option() dsql.Option {
	return func(c *dsql.Config) error {
		logs := &handler{t: t}
		if c.Logger != nil {
			logs.next = c.Logger.Handler()
		}
		c.Logger = slog.New(logs)
		return dsql.WithPoolConfig(func(p *pgxpool.Config) error {
			ours := &tracer{t, t.with(server(p.ConnConfig.Host)...)}
			if before := p.ConnConfig.Tracer; before != nil {
				p.ConnConfig.Tracer = multitracer.New(before, ours)
			} else {
				p.ConnConfig.Tracer = ours
			}
			return nil
		})(c)
	}
}

// tracer traces connects, acquires and statements of pgx.
type tracer struct {
	t    *Telemetry
	pool metric.MeasurementOption // the attributes of a pool's measurements
}

type (
	connectKey struct{}
	acquireKey struct{}
)

// connect is one that has started.
type connect struct {
	start time.Time
	host  string
}

// TraceConnectStart implements [pgx.ConnectTracer].
func (tr *tracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	return context.WithValue(ctx, connectKey{}, connect{time.Now(), data.ConnConfig.Host})
}

// TraceConnectEnd implements [pgx.ConnectTracer].
func (tr *tracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	c, ok := ctx.Value(connectKey{}).(connect)
	if !ok {
		return
	}
	if data.Conn != nil {
		c.host = endpointOf(data.Conn, c.host)
	}
	attributes := server(c.host)
	if data.Err != nil {
		attributes = append(attributes, failure(data.Err)...)
	} else {
		attributes = append(attributes, outcomeKey.String("ok"))
	}
	tr.t.connects.Add(ctx, 1, tr.t.with(attributes...))
	tr.t.connectTime.Record(ctx, time.Since(c.start).Seconds(), tr.t.with(attributes...))
}

// endpointOf returns the endpoint of a multi-Region cluster that conn is to, or the preferred one
// if the connection does not report it.
func endpointOf(conn *pgx.Conn, preferred string) string {
	if c, ok := conn.PgConn().Conn().(*tls.Conn); ok {
		return c.ConnectionState().ServerName
	}
	return preferred
}

// TraceAcquireStart implements [pgxpool.AcquireTracer].
func (tr *tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	tr.t.pending.Add(ctx, 1, tr.pool)
	return context.WithValue(ctx, acquireKey{}, time.Now())
}

// TraceAcquireEnd implements [pgxpool.AcquireTracer].
func (tr *tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	tr.t.pending.Add(ctx, -1, tr.pool)
	start, ok := ctx.Value(acquireKey{}).(time.Time)
	switch {
	case ok && data.Err == nil:
		tr.t.waitTime.Record(ctx, time.Since(start).Seconds(), tr.pool)
	case errors.Is(data.Err, context.DeadlineExceeded):
		tr.t.timeouts.Add(ctx, 1, tr.pool)
	}
}

// TraceQueryStart implements [pgx.QueryTracer].
func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	began(ctx)
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (*tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements [pgx.BatchTracer].
func (tr *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	began(ctx)
	return ctx
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (*tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements [pgx.BatchTracer].
func (*tracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func server(host string) []attribute.KeyValue {
	return []attribute.KeyValue{semconv.ServerAddress(host), semconv.ServerPort(5432), semconv.DBNamespace("postgres")}
}

func failure(err error) []attribute.KeyValue {
	return []attribute.KeyValue{outcomeKey.String("error"), semconv.ErrorTypeKey.String(errorType(err))}
}
