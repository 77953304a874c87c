// Command lambda is an AWS Lambda function whose pool lives as long as the execution environment.
// Outside Lambda it invokes itself.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

// margin is the part of an invocation's time that is kept for the response.
const margin = 500 * time.Millisecond

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		cluster.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	c, err := cluster.Open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	// Outside the handler: once per execution environment, not per event.
	h, err := newHandler(ctx, c.Endpoint, c.Region, c.Options...)
	if err != nil {
		return err
	}
	defer h.pool.Close()
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		lambda.StartWithOptions(h.Handle, lambda.WithContext(ctx))
		return nil
	}
	return invoke(ctx, h, out)
}

// invoke calls the handler three times, as Lambda does.
func invoke(ctx context.Context, h *handler, out io.Writer) error {
	if err := h.apply(ctx, "CREATE TABLE IF NOT EXISTS lambda_counter (name text PRIMARY KEY, n bigint NOT NULL)"); err != nil {
		return err
	}
	for range 3 {
		event, cancel := context.WithTimeout(ctx, 10*time.Second)
		answer, err := h.Handle(event, request{Counter: "visits"})
		cancel()
		if err != nil {
			return err
		}
		line, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", line)
	}
	return h.apply(ctx, "DROP TABLE lambda_counter")
}

type request struct {
	Counter string `json:"counter"`
}

type response struct {
	Counter string `json:"counter"`
	N       int64  `json:"n"`
}

type handler struct{ pool *pgxpool.Pool }

// newHandler opens a pool for an execution environment. It handles one event at a time, so it needs
// few connections and no idle ones, which would be dead after a freeze.
//
// By default pgxpool pings a connection only if it was idle for a second. Its clock may stop during a
// freeze, so here every connection is pinged before use, at the cost of a round trip. A connection
// may be dead without a reset; PingTimeout bounds the wait for it. The second connection is for that
// case, because closing the first may take 15 seconds.
func newHandler(ctx context.Context, endpoint, region string, opts ...dsql.Option) (*handler, error) {
	opts = append(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns = 2
		p.MinConns = 0
		p.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
		p.PingTimeout = time.Second
		return nil
	}))
	pool, err := dsql.NewPool(ctx, endpoint, region, opts...)
	if err != nil {
		return nil, err
	}
	return &handler{pool}, nil
}

// Handle counts one event. It returns before the invocation times out, so that Lambda does not stop
// it in the middle of a transaction.
func (h *handler) Handle(ctx context.Context, event request) (response, error) {
	if event.Counter == "" {
		return response{}, errors.New("the event has no counter")
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-margin))
		defer cancel()
	}
	n, err := occ.RunTxValue(ctx, h.pool, func(tx pgx.Tx) (n int64, err error) {
		err = tx.QueryRow(ctx, `INSERT INTO lambda_counter (name, n) VALUES ($1, 1)
			ON CONFLICT (name) DO UPDATE SET n = lambda_counter.n + 1 RETURNING n`, event.Counter).Scan(&n)
		return n, err
	})
	if err != nil {
		return response{}, err
	}
	return response{Counter: event.Counter, N: n}, nil
}

func (h *handler) apply(ctx context.Context, ddl string) error {
	return occ.Retry(ctx, func(ctx context.Context) error {
		_, err := h.pool.Exec(ctx, ddl)
		return err
	})
}
