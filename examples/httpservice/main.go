// Command httpservice serves counters over HTTP, with readiness, pool metrics and graceful
// shutdown.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

const (
	requestTime  = 5 * time.Second  // for one request
	drainTime    = 1 * time.Second  // between "not ready" and shutdown, for load balancers to notice
	shutdownTime = 10 * time.Second // for requests to finish
)

func main() {
	address := flag.String("addr", "127.0.0.1:8080", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		cluster.Fatal(err)
	}
	fmt.Printf("listening on http://%s: POST /counters/{name}, GET /counters/{name}, /healthz, /readyz, /metrics\n", listener.Addr())
	if err := run(ctx, listener); err != nil {
		cluster.Fatal(err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, listener net.Listener) error {
	c, err := cluster.Open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	pool, err := dsql.NewPool(ctx, c.Endpoint, c.Region, append(c.Options, dsql.WithLogger(logger))...)
	if err != nil {
		return err
	}
	defer pool.Close() // after the last request
	if err := createTable(ctx, pool); err != nil {
		return err
	}

	s := &service{pool: pool, logger: logger}
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: requestTime}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	time.Sleep(drainTime)
	end, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	return server.Shutdown(end)
}

func createTable(ctx context.Context, pool *pgxpool.Pool) error {
	return occ.Retry(ctx, func(ctx context.Context) error {
		_, err := pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS httpservice_counter (name text PRIMARY KEY, n bigint NOT NULL)")
		return err
	})
}
