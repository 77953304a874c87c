// Package otel measures and traces dsql and occ with OpenTelemetry. Its name clashes with
// OpenTelemetry's own, so import it under another:
//
//	import dsqlotel "github.com/go-dsql/dsql/otel"
//
//	tel, err := dsqlotel.New()
//	pool, err := dsql.NewPool(ctx, endpoint, "", tel.Option())
//	_, err = tel.RecordPool(pool)
//	err = tel.RunTx(ctx, "transfer", pool, func(ctx context.Context, tx pgx.Tx) error { … })
//
// Statements have no spans here: combine it with a tracer for pgx, such as otelpgx. The metrics are
// listed in docs/operations.md, with what each means on DSQL.
package otel

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/go-dsql/dsql/otel"

// Telemetry records connections, pools and transactions. One serves any number of pools. It is safe
// for concurrent use.
type Telemetry struct {
	instruments
	tracer      trace.Tracer
	meter       metric.Meter
	attributes  []attribute.KeyValue
	credentials credentials
}

// Option sets one property of a Telemetry.
type Option func(*config) error

type config struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	attributes []attribute.KeyValue
}

// WithTracerProvider creates spans with p in place of the global provider.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) error {
		if p == nil {
			return errors.New("otel: WithTracerProvider: the provider must not be nil; without the option the global one is used")
		}
		c.tracers = p
		return nil
	}
}

// WithMeterProvider records metrics with p in place of the global provider.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) error {
		if p == nil {
			return errors.New("otel: WithMeterProvider: the provider must not be nil; without the option the global one is used")
		}
		c.meters = p
		return nil
	}
}

// WithAttributes adds attributes to every metric and span, such as
// semconv.DBClientConnectionPoolName to tell the pools of a program apart. Several add up.
func WithAttributes(attributes ...attribute.KeyValue) Option {
	return func(c *config) error {
		c.attributes = append(c.attributes, attributes...)
		return nil
	}
}

// New creates the instruments. By default they belong to OpenTelemetry's global providers.
func New(opts ...Option) (*Telemetry, error) {
	c := config{
		tracers:    otel.GetTracerProvider(),
		meters:     otel.GetMeterProvider(),
		attributes: []attribute.KeyValue{semconv.DBSystemNamePostgreSQL},
	}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("otel: option %d is nil", i+1)
		}
		if err := opt(&c); err != nil {
			return nil, err
		}
	}
	t := &Telemetry{
		tracer:     c.tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		meter:      c.meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)),
		attributes: c.attributes,
	}
	if err := t.create(t.meter); err != nil {
		return nil, fmt.Errorf("otel: %w", err)
	}
	if err := t.observeCredentials(); err != nil {
		return nil, fmt.Errorf("otel: %w", err)
	}
	return t, nil
}

// with returns the attributes of every measurement and further ones.
func (t *Telemetry) with(further ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(t.attributes[:len(t.attributes):len(t.attributes)], further...)...)
}
