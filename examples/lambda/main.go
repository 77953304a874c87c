// Command lambda is an AWS Lambda function with a pool of connections that lives as
// long as its execution environment. Run by hand, it invokes itself.
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

// margin is what is left of an invocation's time to answer in.
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
	// Outside of the handler: once for an execution environment, not for each event.
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

// invoke is what Lambda does, three times.
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

// newHandler opens a pool as an execution environment needs it: it has one event at a
// time, so few connections do, and none that nobody asked for, as they would be dead
// after a freeze.
//
// By default pgxpool asks a connection whether it lives only if it was idle for a
// second. The clock that it goes by may stand still in a freeze, and hours then look
// like none: so here every connection is asked before it is handed out, which costs a
// round trip. Some are dead without a sign: PingTimeout bounds the wait for such a one.
// The second connection is for then, as closing the first may take 15 seconds.
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

// Handle counts one event. It ends before the invocation does, so that Lambda does not
// end it in the middle of a transaction.
func (h *handler) Handle(ctx context.Context, event request) (response, error) {
	if event.Counter == "" {
		return response{}, errors.New("the event names no counter")
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
