package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

func TestLambda(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	t.Setenv("AWS_LAMBDA_RUNTIME_API", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	want := `{"counter":"visits","n":1}` + "\n" + `{"counter":"visits","n":2}` + "\n" + `{"counter":"visits","n":3}` + "\n"
	if out.String() != want {
		t.Fatalf("printed %q, not %q", out.String(), want)
	}
}

func start(t *testing.T) (*dsqltest.Cluster, *handler) {
	t.Helper()
	c := dsqltest.Start(t)
	return c, open(t, c)
}

func open(t *testing.T, c *dsqltest.Cluster, opts ...dsql.Option) *handler {
	t.Helper()
	h, err := newHandler(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.pool.Close)
	if err := h.apply(t.Context(), "CREATE TABLE lambda_counter (name text PRIMARY KEY, n bigint NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	return h
}

func handle(t *testing.T, h *handler, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := h.Handle(ctx, request{Counter: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if answer.N != want {
		t.Fatalf("counted %d, not %d", answer.N, want)
	}
}

// A freeze may last for hours. Connections are closed by then, although no time has passed for the
// process.
func TestInvocationAfterAFreezeReconnects(t *testing.T) {
	c, h := start(t)
	handle(t, h, 1)
	c.CutConnections()
	handle(t, h, 2)
	if n := c.Stats().Connects; n != 2 {
		t.Fatalf("%d connections were made, not 2", n)
	}
}

// A connection may also be dead without a reset: whatever is sent is lost.
func TestInvocationAfterAFreezeDoesNotWaitForADeadConnection(t *testing.T) {
	c := dsqltest.Start(t)
	var first *hole
	h := open(t, c, func(cfg *dsql.Config) error {
		dial := cfg.DialFunc
		cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil || first != nil {
				return conn, err
			}
			first = &hole{Conn: conn}
			return first, nil
		}
		return nil
	})
	handle(t, h, 1)
	first.dead.Store(true)
	defer first.Close() // the pool would wait for it
	begin := time.Now()
	handle(t, h, 2)
	if took := time.Since(begin); took < time.Second || took > 10*time.Second {
		t.Fatalf("it took %v; PingTimeout is a second", took)
	}
}

// hole is a connection that discards what is sent once it is dead.
type hole struct {
	net.Conn
	dead atomic.Bool
}

func (h *hole) Write(p []byte) (int, error) {
	if h.dead.Load() {
		return len(p), nil
	}
	return h.Conn.Write(p)
}

func TestInvocationReturnsBeforeItsDeadline(t *testing.T) {
	c, h := start(t)
	handle(t, h, 1)
	c.Pause()
	defer c.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), margin+200*time.Millisecond)
	defer cancel()
	if _, err := h.Handle(ctx, request{Counter: "c"}); err == nil || ctx.Err() != nil {
		t.Fatalf("%v, and the invocation's time: %v", err, ctx.Err())
	}
}

func TestEventWithoutACounter(t *testing.T) {
	_, h := start(t)
	if _, err := h.Handle(t.Context(), request{}); err == nil {
		t.Fatal("the event was accepted")
	}
}

// The runtime polls for the next event and posts the response.
func TestRuntimeProtocol(t *testing.T) {
	_, h := start(t)
	answers := make(chan string, 1)
	events := make(chan string, 1)
	events <- `{"counter":"c"}`
	// It is never closed: the process exits when it loses its runtime.
	runtime := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/invocation/next") {
			event := <-events
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "1")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
			fmt.Fprint(w, event)
			return
		}
		body, _ := io.ReadAll(r.Body)
		answers <- r.URL.Path[strings.LastIndex(r.URL.Path, "/"):] + " " + string(body)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Setenv("AWS_LAMBDA_RUNTIME_API", strings.TrimPrefix(runtime.URL, "http://"))
	go lambda.Start(h.Handle)
	select {
	case got := <-answers:
		if want := `/response {"counter":"c","n":1}`; got != want {
			t.Fatalf("answered %s, not %s", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("no response arrived")
	}
}
