package otel

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// handler reads what dsql logs of tokens, and of connects that fail before the tracer is called,
// and passes everything on to the caller's handler.
type handler struct {
	t    *Telemetry
	next slog.Handler // nil: there is none
}

// Enabled implements [slog.Handler]: tokens are logged at Debug.
func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var at client
	var expires time.Time
	var source string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "endpoint":
			at.endpoint = a.Value.String()
		case "role":
			at.role = a.Value.String()
		case "credentials_source":
			source = a.Value.String()
		case "credentials_expire":
			expires = a.Value.Time()
		}
		return true
	})
	switch r.Message {
	case "dsql: token made":
		h.t.credentials.used(at, source, expires)
		h.t.tokens.Add(ctx, 1, h.t.with(append(at.attributes(), outcomeKey.String("ok"))...))
	case "dsql: no token":
		failed := []attribute.KeyValue{outcomeKey.String("error"), semconv.ErrorTypeKey.String("credentials")}
		h.t.tokens.Add(ctx, 1, h.t.with(append(at.attributes(), failed...)...))
		h.t.connects.Add(ctx, 1, h.t.with(append(server(at.endpoint), failed...)...))
	case "dsql: connect limiter":
		failed := []attribute.KeyValue{outcomeKey.String("error"), semconv.ErrorTypeKey.String("connect_rate")}
		h.t.connects.Add(ctx, 1, h.t.with(append(server(at.endpoint), failed...)...))
	}
	if h.next == nil || !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if h.next == nil {
		return h
	}
	return &handler{h.t, h.next.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	if h.next == nil {
		return h
	}
	return &handler{h.t, h.next.WithGroup(name)}
}

// client is a role at an endpoint.
type client struct{ endpoint, role string }

func (c client) attributes() []attribute.KeyValue {
	return append(server(c.endpoint), roleKey.String(c.role))
}

// credentials holds the credentials that signed the latest token of each client.
type credentials struct {
	mu    sync.Mutex
	inUse map[client]lifetime
}

type lifetime struct {
	source  string
	first   time.Time // when they were first used
	expires time.Time // zero: they do not
}

func (c *credentials) used(by client, source string, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.inUse[by]; ok && known.source == source && known.expires.Equal(expires) {
		return
	}
	if c.inUse == nil {
		c.inUse = make(map[client]lifetime)
	}
	c.inUse[by] = lifetime{source, time.Now(), expires}
}

func (t *Telemetry) observeCredentials() error {
	_, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		t.credentials.mu.Lock()
		defer t.credentials.mu.Unlock()
		for by, l := range t.credentials.inUse {
			o.ObserveFloat64(t.credentialsAge, time.Since(l.first).Seconds(), t.with(by.attributes()...))
			if !l.expires.IsZero() {
				o.ObserveFloat64(t.credentialsLeft, time.Until(l.expires).Seconds(), t.with(by.attributes()...))
			}
		}
		return nil
	}, t.credentialsAge, t.credentialsLeft)
	return err
}
