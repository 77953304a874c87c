package dsql

import (
	"context"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// log says of which cluster and role it is. Nothing that is given to it may be a
// secret.
func (c *Connector) log(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	if c.logger == nil {
		return
	}
	attrs = append([]slog.Attr{slog.String("endpoint", c.endpoint.Host), slog.String("role", c.user)}, attrs...)
	c.logger.LogAttrs(ctx, level, message, attrs...)
}

func (c *Connector) logToken(ctx context.Context, creds aws.Credentials) {
	attrs := []slog.Attr{slog.String("credentials_source", creds.Source)}
	if creds.CanExpire {
		attrs = append(attrs, slog.Time("credentials_expire", creds.Expires))
	}
	c.log(ctx, slog.LevelDebug, "dsql: token made", attrs...)
}

// withConnectLog has a connection's outcome logged. Only a tracer is told both of
// success and of failure.
func (c *Connector) withConnectLog(cc *pgx.ConnConfig) {
	if c.logger == nil {
		return
	}
	tracers := []pgx.QueryTracer{connectLog{c, time.Now()}}
	if cc.Tracer != nil {
		tracers = append(tracers, cc.Tracer)
	}
	cc.Tracer = multitracer.New(tracers...)
}

// connectLog is the tracer of one connection.
type connectLog struct {
	c     *Connector
	start time.Time
}

func (connectLog) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

func (l connectLog) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	duration := slog.Duration("duration", time.Since(l.start))
	if data.Err == nil {
		l.c.log(ctx, slog.LevelDebug, "dsql: connected", duration)
		return
	}
	level := slog.LevelDebug
	if sqlstate.InTree(data.Err) {
		level = slog.LevelWarn // the server refused; the rest the caller is told
	}
	l.c.log(ctx, level, "dsql: connect failed", duration,
		slog.String("error", data.Err.Error()), slog.String("explanation", Explain(data.Err)))
}

func (connectLog) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (connectLog) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
