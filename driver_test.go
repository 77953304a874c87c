package dsql_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// driverName returns a name that is free when a test runs again, too.
func driverName(t *testing.T) string {
	return fmt.Sprintf("dsql-%s-%d", t.Name(), len(sql.Drivers()))
}

func TestRegisterDriver(t *testing.T) {
	name := driverName(t)
	require.NoError(t, dsql.RegisterDriver(name))
	require.ErrorContains(t, dsql.RegisterDriver(name), "dsql: a database/sql driver is already registered as \""+name+`"`)
	require.ErrorContains(t, dsql.RegisterDriver("pgx"), "already registered")
	require.ErrorContains(t, dsql.RegisterDriver(""), "dsql: RegisterDriver: the name must not be empty")

	_, err := sql.Open(name, "postgres://admin:hunter2@"+host)
	require.ErrorContains(t, err, "dsql: the URL has a password")
	require.NotContains(t, err.Error(), "hunter2")

	c := startCluster(t)
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	for _, entry := range c.Env() {
		for i := range entry {
			if entry[i] == '=' {
				t.Setenv(entry[:i], entry[i+1:])
				break
			}
		}
	}
	first, err := sql.Open(name, c.URL())
	require.NoError(t, err)
	defer first.Close()
	second, err := sql.Open(name, c.URL())
	require.NoError(t, err)
	defer second.Close()
	require.Same(t, first.Driver(), second.Driver())
	for _, db := range []*sql.DB{first, second} {
		var role string
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_user").Scan(&role))
		require.Equal(t, "admin", role)
	}
	conn, err := first.Driver().Open(c.URL())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// failing is a limiter by which a connector can be told from another.
type failing struct{ calls *atomic.Int64 }

func (f failing) Wait(context.Context) error { f.calls.Add(1); return nil }

func TestNewConnectorAppliesOptionsToACopy(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	var calls atomic.Int64
	cfg := dsql.Config{Endpoint: host, User: "app"}
	c, err := dsql.NewConnector(t.Context(), cfg, harness.With(opts, dsql.WithUser("svc"), dsql.WithConnectLimiter(failing{&calls}))...)
	require.NoError(t, err)
	require.Equal(t, dsql.Config{Endpoint: host, User: "app"}, cfg)
	pool, err := c.NewPool(t.Context())
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, harness.Ping(t, pool))
	require.Equal(t, "svc", s.Conns()[0].Parameters["user"])
	require.EqualValues(t, 1, calls.Load())
	_, err = dsql.NewConnector(t.Context(), cfg, nil)
	require.ErrorContains(t, err, "dsql: option 1 is nil")
}

// startCredentials runs the credentials endpoint of a container, which the SDK's default chain
// asks, and counts the requests.
func startCredentials(t *testing.T, answer http.HandlerFunc) *atomic.Int64 {
	t.Helper()
	calls := new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
	return calls
}

func sendCredentials(w http.ResponseWriter) {
	fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Token":"x","Expiration":%q}`,
		harness.AccessKey, harness.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

// openDriver opens a database of a registered driver, whose connections are refused when they have
// credentials.
func openDriver(t *testing.T) *sql.DB {
	t.Helper()
	name := driverName(t)
	require.NoError(t, dsql.RegisterDriver(name))
	db, err := sql.Open(name, "postgres://"+host+"?hostaddr=127.0.0.1&port=1")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func requireDialed(t *testing.T, err error) {
	t.Helper()
	var dial *pgconn.ConnectError
	require.ErrorAs(t, err, &dial)
}

func TestFirstConnectionsOfADriverShareOneRequestForCredentials(t *testing.T) {
	release := make(chan struct{})
	calls := startCredentials(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		sendCredentials(w)
	})
	db := openDriver(t)
	impatient, giveUp := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() { gaveUp <- db.PingContext(impatient) }()
	require.Eventually(t, func() bool { return calls.Load() > 0 }, 30*time.Second, time.Millisecond)
	errs := make(chan error)
	for range 20 {
		go func() { errs <- db.PingContext(t.Context()) }()
	}
	time.Sleep(200 * time.Millisecond) // most of them wait, and those that come later ask for nothing
	giveUp()
	require.ErrorIs(t, <-gaveUp, context.Canceled, "it does not wait for the others")
	close(release)
	for range 20 {
		requireDialed(t, <-errs)
	}
	require.EqualValues(t, 1, calls.Load())
}

func TestConnectionsOfADriverWaitForCredentialsNoLongerThanTheirContexts(t *testing.T) {
	release := make(chan struct{})
	startCredentials(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	db := openDriver(t)
	for range 2 { // the first asks, the second waits
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := db.PingContext(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "dsql: getting AWS credentials timed out")
		require.ErrorContains(t, err, "hop limit", "it is explained")
	}
}

func TestFirstConnectionOfADriverThatFailsIsNotRemembered(t *testing.T) {
	var fails atomic.Bool
	fails.Store(true)
	calls := startCredentials(t, func(w http.ResponseWriter, _ *http.Request) {
		if fails.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		sendCredentials(w)
	})
	db := openDriver(t)
	for want := int64(1); want <= 2; want++ {
		require.ErrorContains(t, db.PingContext(t.Context()), "dsql: no AWS credentials")
		require.Equal(t, want, calls.Load())
	}
	fails.Store(false)
	for range 2 {
		requireDialed(t, db.PingContext(t.Context()))
	}
	require.EqualValues(t, 3, calls.Load())
}
