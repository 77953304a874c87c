package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

type service struct {
	pool     *pgxpool.Pool
	logger   *slog.Logger
	stopping atomic.Bool
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /counters/{name}", s.answer(s.add))
	mux.HandleFunc("GET /counters/{name}", s.answer(s.get))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /metrics", s.metrics)
	return mux
}

type counter struct {
	Name string `json:"name"`
	N    int64  `json:"n"`
}

// answer runs f with the time limit of a request and writes its result as the response.
func (s *service) answer(f func(ctx context.Context, name string) (counter, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTime)
		defer cancel()
		c, err := f(ctx, r.PathValue("name"))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c)
	}
}

// fail responds with what the client can act on, and logs the rest.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		status = http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	case occ.IsConflict(err), dsql.IsConnectLimit(err): // still, after all attempts
		w.Header().Set("Retry-After", "1")
		status = http.StatusServiceUnavailable
	}
	if status != http.StatusNotFound {
		s.logger.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err, "explanation", dsql.Explain(err))
	}
	http.Error(w, http.StatusText(status), status)
}

func (s *service) add(ctx context.Context, name string) (counter, error) {
	return occ.RunTxValue(ctx, s.pool, func(tx pgx.Tx) (counter, error) {
		c := counter{Name: name}
		err := tx.QueryRow(ctx, `INSERT INTO httpservice_counter (name, n) VALUES ($1, 1)
			ON CONFLICT (name) DO UPDATE SET n = httpservice_counter.n + 1 RETURNING n`, name).Scan(&c.N)
		return c, err
	})
}

func (s *service) get(ctx context.Context, name string) (counter, error) {
	c := counter{Name: name}
	err := occ.Retry(ctx, func(ctx context.Context) error { // the schema may have changed
		return s.pool.QueryRow(ctx, "SELECT n FROM httpservice_counter WHERE name = $1", name).Scan(&c.N)
	})
	return c, err
}

// ready reports whether the service can take requests.
func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	if s.stopping.Load() || s.pool.Ping(ctx) != nil {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// metrics writes the pool's metrics in Prometheus text format.
func (s *service) metrics(w http.ResponseWriter, _ *http.Request) {
	stat := s.pool.Stat()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, m := range []struct {
		name, kind string
		value      float64
	}{
		{"pgxpool_max_conns", "gauge", float64(stat.MaxConns())},
		{"pgxpool_total_conns", "gauge", float64(stat.TotalConns())},
		{"pgxpool_acquired_conns", "gauge", float64(stat.AcquiredConns())},
		{"pgxpool_idle_conns", "gauge", float64(stat.IdleConns())},
		{"pgxpool_acquires_total", "counter", float64(stat.AcquireCount())},
		{"pgxpool_acquire_seconds_total", "counter", stat.AcquireDuration().Seconds()},
		{"pgxpool_empty_acquires_total", "counter", float64(stat.EmptyAcquireCount())},
		{"pgxpool_new_conns_total", "counter", float64(stat.NewConnsCount())},
	} {
		fmt.Fprintf(w, "# TYPE %s %s\n%s %g\n", m.name, m.kind, m.name, m.value)
	}
}
