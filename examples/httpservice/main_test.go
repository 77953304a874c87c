package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

func call(t *testing.T, method, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, strings.TrimSpace(string(body))
}

func requireAnswer(t *testing.T, method, url string, status int, body string) {
	t.Helper()
	gotStatus, gotBody := call(t, method, url)
	if gotStatus != status || !strings.Contains(gotBody, body) {
		t.Fatalf("%s %s: %d %q, not %d %q", method, url, gotStatus, gotBody, status, body)
	}
}

func TestHTTPService(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, listener) }()
	t.Cleanup(func() { stop(); <-ended })

	requireAnswer(t, "GET", url+"/healthz", 200, "ok")
	requireAnswer(t, "GET", url+"/readyz", 200, "ready")
	requireAnswer(t, "GET", url+"/counters/visits", 404, "Not Found")
	var visitors sync.WaitGroup
	for range 20 {
		visitors.Go(func() { requireAnswerLater(t, "POST", url+"/counters/visits", 200) })
	}
	visitors.Wait()
	requireAnswer(t, "GET", url+"/counters/visits", 200, `{"name":"visits","n":20}`)
	requireAnswer(t, "GET", url+"/metrics", 200, "\npgxpool_max_conns ")

	stop()
	for { // not ready first, then shut down
		status, _ := call(t, "GET", url+"/readyz")
		if status == http.StatusServiceUnavailable {
			break
		}
		if status != http.StatusOK {
			t.Fatalf("it shut down before it was not ready: %d", status)
		}
	}
	requireAnswer(t, "POST", url+"/counters/visits", 200, `{"name":"visits","n":21}`)
	err = <-ended
	ended <- err
	if err != nil {
		t.Fatal(err)
	}
}

// requireAnswerLater is requireAnswer for goroutines other than the test's.
func requireAnswerLater(t *testing.T, method, url string, status int) {
	if got, body := call(t, method, url); got != status {
		t.Errorf("%s %s: %d %q", method, url, got, body)
	}
}

func newService(t *testing.T, opts ...dsql.Option) (*dsqltest.Cluster, *service) {
	t.Helper()
	c := dsqltest.Start(t)
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := createTable(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return c, &service{pool: pool, logger: slog.New(slog.DiscardHandler)}
}

func TestConflictsAreRetried(t *testing.T) {
	c, s := newService(t)
	server := httptest.NewServer(s.routes())
	defer server.Close()
	c.ConflictNext(3)
	requireAnswer(t, "POST", server.URL+"/counters/c", 200, `{"name":"c","n":1}`)
}

func TestClusterThatDoesNotRespond(t *testing.T) {
	c, s := newService(t, dsql.WithPoolConfig(func(p *pgxpool.Config) error { p.MaxConns = 1; return nil }))
	server := httptest.NewServer(s.routes())
	defer server.Close()
	c.Pause()
	requireAnswer(t, "GET", server.URL+"/readyz", 503, "not ready")
	requireAnswer(t, "GET", server.URL+"/healthz", 200, "ok")
	c.Resume()
	for status := 0; status != http.StatusOK; status, _ = call(t, "GET", server.URL+"/readyz") {
		time.Sleep(10 * time.Millisecond)
	}
}

func TestResponsesHideInternalErrors(t *testing.T) {
	_, s := newService(t)
	for err, want := range map[error]int{
		context.DeadlineExceeded:         http.StatusGatewayTimeout,
		errors.New("an internal secret"): http.StatusInternalServerError,
		&occ.RetryError{Err: conflict{}}: http.StatusServiceUnavailable,
	} {
		w := httptest.NewRecorder()
		s.fail(w, httptest.NewRequest("GET", "/counters/c", nil), err)
		if w.Code != want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: %d %q", err, w.Code, w.Body.String())
		}
	}
}

// conflict is a conflict of another driver.
type conflict struct{}

func (conflict) Error() string    { return "conflict" }
func (conflict) SQLState() string { return "40001" }
