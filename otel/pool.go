package otel

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// RecordPool records the pool's gauges until the registration is unregistered, which belongs next to
// the pool's Close.
func (t *Telemetry) RecordPool(pool *pgxpool.Pool) (metric.Registration, error) {
	if pool == nil {
		return nil, errors.New("otel: RecordPool: the pool must not be nil")
	}
	cfg := pool.Config()
	at := server(cfg.ConnConfig.Host)
	everything := t.with(at...)
	used := t.with(append(at[:len(at):len(at)], semconv.DBClientConnectionStateUsed)...)
	idle := t.with(append(at[:len(at):len(at)], semconv.DBClientConnectionStateIdle)...)
	r, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stat := pool.Stat()
		o.ObserveInt64(t.poolCount, int64(stat.AcquiredConns()), used)
		o.ObserveInt64(t.poolCount, int64(stat.IdleConns()), idle)
		o.ObserveInt64(t.poolConstructing, int64(stat.ConstructingConns()), everything)
		o.ObserveInt64(t.poolMax, int64(stat.MaxConns()), everything)
		o.ObserveInt64(t.poolIdleMin, int64(cfg.MinIdleConns), everything)
		return nil
	}, t.poolCount, t.poolConstructing, t.poolMax, t.poolIdleMin)
	if err != nil {
		return nil, fmt.Errorf("otel: %w", err)
	}
	return r, nil
}
