package otel_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
	dsqlotel "github.com/go-dsql/dsql/otel"
)

// recorder is a Telemetry with what it has recorded.
type recorder struct {
	*dsqlotel.Telemetry
	metrics *metric.ManualReader
	spans   *tracetest.InMemoryExporter
}

func record(t *testing.T, opts ...dsqlotel.Option) *recorder {
	t.Helper()
	r := &recorder{metrics: metric.NewManualReader(), spans: tracetest.NewInMemoryExporter()}
	tel, err := dsqlotel.New(append([]dsqlotel.Option{
		dsqlotel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(r.metrics))),
		dsqlotel.WithTracerProvider(trace.NewTracerProvider(trace.WithSyncer(r.spans))),
	}, opts...)...)
	require.NoError(t, err)
	r.Telemetry = tel
	return r
}

func (r *recorder) collect(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, r.metrics.Collect(t.Context(), &all))
	byName := make(map[string]metricdata.Metrics)
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			byName[m.Name] = m
		}
	}
	return byName
}

// sum returns the total, or a histogram's count, of the points of a metric that have all of some
// attributes, each key=value.
func (r *recorder) sum(t *testing.T, name string, with ...string) float64 {
	t.Helper()
	var total float64
	add := func(set attribute.Set, value float64) {
		for _, want := range with {
			key, value, _ := strings.Cut(want, "=")
			if got, _ := set.Value(attribute.Key(key)); got.String() != value {
				return
			}
		}
		total += value
	}
	switch data := r.collect(t)[name].Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Value))
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Count))
		}
	case metricdata.Histogram[int64]: // what was counted, not how often
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Sum))
		}
	}
	return total
}

func open(t *testing.T, c *dsqltest.Cluster, opts ...dsql.Option) *pgxpool.Pool {
	t.Helper()
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), opts...)...)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func createTable(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	_, err := pool.Exec(t.Context(), "CREATE TABLE n (id int PRIMARY KEY)")
	require.NoError(t, err)
}

func insert(id int) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO n VALUES ($1)", id)
		return err
	}
}

// events returns the attributes of a span's events.
func events(span tracetest.SpanStub) (all []map[string]string) {
	for _, e := range span.Events {
		m := make(map[string]string)
		for _, a := range e.Attributes {
			if a.Key != "dsql.attempt.delay" {
				m[string(a.Key)] = a.Value.String()
			}
		}
		all = append(all, m)
	}
	return all
}

func TestATransactionIsASpanWithItsAttempts(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t, dsqlotel.WithAttributes(attribute.String("service", "bank")))
	pool := open(t, c, r.Option())
	createTable(t, pool)
	c.ConflictNext(2)
	c.SchemaConflictNext(1)
	require.NoError(t, r.RunTx(t.Context(), "transfer", pool, insert(1)))

	spans := r.spans.GetSpans()
	require.Len(t, spans, 1)
	require.Equal(t, "transfer", spans[0].Name)
	require.Equal(t, codes.Unset, spans[0].Status.Code)
	require.Contains(t, spans[0].Attributes, attribute.String("service", "bank"))
	require.Contains(t, spans[0].Attributes, attribute.String("db.system.name", "postgresql"))
	require.Contains(t, spans[0].Attributes, attribute.String("dsql.outcome", "committed"))
	require.Equal(t, []map[string]string{
		{"dsql.attempt.number": "1", "dsql.outcome": "error", "error.type": "40001", "dsql.conflict.kind": "OC000"},
		{"dsql.attempt.number": "2", "dsql.outcome": "error", "error.type": "40001", "dsql.conflict.kind": "OC000"},
		{"dsql.attempt.number": "3", "dsql.outcome": "error", "error.type": "40001", "dsql.conflict.kind": "OC001"},
		{"dsql.attempt.number": "4", "dsql.outcome": "ok"},
	}, events(spans[0]))

	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.duration", "dsql.transaction.name=transfer", "dsql.outcome=committed", "service=bank"))
	require.Equal(t, 4.0, r.sum(t, "dsql.client.transaction.attempts", "dsql.transaction.name=transfer"))
	require.Equal(t, 2.0, r.sum(t, "dsql.client.transaction.conflicts", "dsql.conflict.kind=OC000"))
	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.conflicts", "dsql.conflict.kind=OC001"))
	require.Zero(t, r.sum(t, "dsql.client.transaction.unknown_commits"))
}

func TestGivingUpCountsTheLastConflictOnce(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option())
	createTable(t, pool)
	var told int
	c.ConflictNext(3)
	err := r.RunTx(t.Context(), "", pool, insert(1), occ.WithMaxAttempts(3), occ.WithOnRetry(func(occ.RetryEvent) { told++ }))
	require.True(t, occ.IsConflict(err))
	require.Equal(t, 2, told)
	require.Equal(t, 3.0, r.sum(t, "dsql.client.transaction.conflicts", "dsql.transaction.name=transaction"))
	require.Equal(t, 3.0, r.sum(t, "dsql.client.transaction.attempts"))
	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.duration", "dsql.outcome=gave_up", "error.type=40001"))
	span := r.spans.GetSpans()[0]
	require.Len(t, span.Events, 3)
	require.Equal(t, codes.Error, span.Status.Code)
	require.Equal(t, "40001", span.Status.Description)

	// A context that ends while an attempt is waited for: that conflict has been counted.
	c.ConflictNext(1)
	ctx, cancel := context.WithCancel(t.Context())
	err = r.RunTx(ctx, "canceled", pool, insert(2), occ.WithOnRetry(func(occ.RetryEvent) { cancel() }))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.conflicts", "dsql.transaction.name=canceled"))
	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.attempts", "dsql.transaction.name=canceled"))
}

func TestUnknownCommitsAreCounted(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option())
	createTable(t, pool)
	c.CutAtCommit(dsqltest.AfterApplied)
	err := r.RunTx(t.Context(), "pay", pool, insert(1))
	require.ErrorAs(t, err, new(*occ.CommitUnknownError))
	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.unknown_commits", "dsql.transaction.name=pay"))
	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.duration", "dsql.outcome=unknown", "error.type=commit_unknown"))

	// One that WithCommitCheck settles is an attempt that failed, and the transaction commits.
	c.CutAtCommit(dsqltest.BeforeApplied)
	err = r.RunTx(t.Context(), "checked", pool, insert(2), occ.WithCommitCheck(func(ctx context.Context) (applied bool, err error) {
		err = pool.QueryRow(ctx, "SELECT count(*) > 0 FROM n WHERE id = 2").Scan(&applied)
		return applied, err
	}))
	require.NoError(t, err)
	require.Zero(t, r.sum(t, "dsql.client.transaction.unknown_commits", "dsql.transaction.name=checked"))
	require.Equal(t, 2.0, r.sum(t, "dsql.client.transaction.attempts", "dsql.transaction.name=checked"))
}

func TestOtherErrorsFailTheSpanWithoutTheirText(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option())
	createTable(t, pool)
	err := r.RunTx(t.Context(), "bad", pool, func(ctx context.Context, tx pgx.Tx) error { return errors.New("alice's secret") })
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.duration", "dsql.outcome=failed", "error.type=_OTHER"))
	require.PanicsWithValue(t, "alice's secret", func() {
		_ = r.RunTx(t.Context(), "panics", pool, func(context.Context, pgx.Tx) error { panic("alice's secret") })
	})
	require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.duration", "dsql.transaction.name=panics", "error.type=panic"))
	require.Len(t, r.spans.GetSpans(), 2)
	text, err := json.Marshal(r.spans.GetSpans())
	require.NoError(t, err)
	require.NotContains(t, string(text), "alice")
}

// The functions of occ other than RunTx, and database/sql.
func TestTransactionWorksWithEveryFunctionOfOCC(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option())
	createTable(t, pool)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), r.Option())...)
	require.NoError(t, err)
	defer db.Close()
	for name, run := range map[string]func(context.Context, occ.RetryOption) error{
		"batch": func(ctx context.Context, observe occ.RetryOption) error {
			return occ.RunBatch(ctx, pool, func(b *pgx.Batch) error { b.Queue("INSERT INTO n VALUES (1)"); return nil }, observe)
		},
		"sql": func(ctx context.Context, observe occ.RetryOption) error {
			return occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error { _, err := tx.ExecContext(ctx, "INSERT INTO n VALUES (2)"); return err }, observe)
		},
		"retry": func(ctx context.Context, observe occ.RetryOption) error {
			return occ.Retry(ctx, func(ctx context.Context) error { _, err := pool.Exec(ctx, "INSERT INTO n VALUES (3)"); return err }, observe)
		},
	} {
		require.NoError(t, c.ConflictOn(1, "n"))
		require.NoError(t, r.Transaction(t.Context(), name, run), name)
		at := "dsql.transaction.name=" + name
		require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.conflicts", at), name)
		require.Equal(t, 2.0, r.sum(t, "dsql.client.transaction.attempts", at), name)
		require.Equal(t, 1.0, r.sum(t, "dsql.client.transaction.queue.duration", at), name)
	}
}

// The queue is what comes before an attempt: 200 ms between two, and nothing while one runs.
func TestQueueTime(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option())
	createTable(t, pool)
	ran := 0
	c.ConflictNext(1)
	err := r.RunTx(t.Context(), "slow", pool, func(ctx context.Context, tx pgx.Tx) error {
		ran++
		if err := insert(1)(ctx, tx); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond)
		return nil
	}, occ.WithOnRetry(func(occ.RetryEvent) { time.Sleep(200 * time.Millisecond) }))
	require.NoError(t, err)
	queue := r.collect(t)["dsql.client.transaction.queue.duration"].Data.(metricdata.Histogram[float64]).DataPoints[0]
	whole := r.collect(t)["dsql.client.transaction.duration"].Data.(metricdata.Histogram[float64]).DataPoints[0]
	require.Equal(t, 2, ran)
	require.LessOrEqual(t, queue.Sum, whole.Sum-0.6) // both runs slept
	require.Positive(t, queue.Sum)
}

func TestConnects(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option())
	require.NoError(t, pool.Ping(t.Context()))
	at := "server.address=" + c.Endpoint()
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", at, "dsql.outcome=ok", "server.port=5432"))
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.create_time", at, "dsql.outcome=ok"))
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.wait_time", at))

	for code, cause := range map[string]string{"53300": "connect_limit", "53400": "connect_limit", "28000": "access_denied"} {
		before := r.sum(t, "dsql.client.connects", at, "error.type="+cause)
		c.RefuseConnections(code)
		_, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), r.Option())...)
		require.Error(t, err)
		require.Equal(t, before+1, r.sum(t, "dsql.client.connects", at, "dsql.outcome=error", "error.type="+cause), code)
	}
	c.Restore()
	c.Cut()
	_, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), r.Option())...)
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", at, "error.type=network"))
	c.Restore()
	_, err = dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), dsql.WithConnectLimiter(noTurn{}), r.Option())...)
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", at, "error.type=connect_rate"))
	_, err = dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), r.Option(), dsql.WithCredentials(aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("none") })))...)
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", at, "error.type=credentials"))
	require.Equal(t, 1.0, r.sum(t, "dsql.client.tokens", at, "dsql.outcome=error", "error.type=credentials"))
}

type noTurn struct{}

func (noTurn) Wait(context.Context) error { return errors.New("none") }

func TestConnectsTellTheEndpoint(t *testing.T) {
	c := dsqltest.Start(t, dsqltest.WithPeer("us-east-2"))
	r := record(t)
	pool := open(t, c, dsql.WithFailover(c.Peer().Endpoint(), ""), r.Option())
	require.NoError(t, pool.Ping(t.Context()))
	c.Cut()
	require.Eventually(t, func() bool { return pool.Ping(t.Context()) == nil }, 30*time.Second, time.Millisecond)
	for _, endpoint := range []string{c.Endpoint(), c.Peer().Endpoint()} {
		require.EqualValues(t, 1, r.sum(t, "db.client.connection.create_time", "server.address="+endpoint))
	}
}

func TestCertificatesAreACause(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	cfg := c.Config()
	cfg.RootCAs = nil // the system's, which do not know the cluster's
	connector, err := dsql.NewConnector(t.Context(), cfg, r.Option())
	require.NoError(t, err)
	_, err = connector.Connect(t.Context())
	require.Error(t, err)
	require.Equal(t, 1.0, r.sum(t, "dsql.client.connects", "error.type=certificate"))
}

func TestTokensAndCredentials(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	creds, err := c.Config().Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	creds.CanExpire, creds.Expires = true, time.Now().Add(time.Hour)
	pool := open(t, c, dsql.WithCredentials(aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) { return creds, nil })), r.Option())
	require.NoError(t, pool.Ping(t.Context()))
	at := "server.address=" + c.Endpoint()
	require.Equal(t, 2.0, r.sum(t, "dsql.client.tokens", at, "dsql.role=admin", "dsql.outcome=ok")) // one to see that it can be made
	left := r.sum(t, "dsql.client.credentials.remaining", at)
	require.Greater(t, left, 3000.0)
	require.LessOrEqual(t, left, 3600.0)
	require.Positive(t, r.sum(t, "dsql.client.credentials.age", at))
}

func TestPoolGauges(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	pool := open(t, c, r.Option(), dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.MaxConns = 2
		return nil
	}))
	registration, err := r.RecordPool(pool)
	require.NoError(t, err)
	a, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	b, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	a.Release()
	at := "server.address=" + c.Endpoint()
	require.Eventually(t, func() bool { return pool.Stat().IdleConns() == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.count", at, "db.client.connection.state=used"))
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.count", at, "db.client.connection.state=idle"))
	require.Equal(t, 2.0, r.sum(t, "db.client.connection.max", at))
	require.Zero(t, r.sum(t, "db.client.connection.pending_requests", at))

	a, err = pool.Acquire(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = pool.Acquire(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1.0, r.sum(t, "db.client.connection.timeouts", at))
	a.Release()
	b.Release()
	require.NoError(t, registration.Unregister())
	require.NotContains(t, r.collect(t), "db.client.connection.max")

	_, err = r.RecordPool(nil)
	require.ErrorContains(t, err, "otel: RecordPool was given nil")
}

// A tracer and a logger of the caller's stay.
func TestTheCallersTracerAndLoggerStay(t *testing.T) {
	c := dsqltest.Start(t)
	r := record(t)
	own := new(queries)
	var log strings.Builder
	pool := open(t, c, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.ConnConfig.Tracer = own
		return nil
	}), dsql.WithLogger(slog.New(slog.NewTextHandler(&log, nil)).With("k", "v")), r.Option())
	require.NoError(t, r.RunTx(t.Context(), "x", pool, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	}))
	require.Equal(t, []string{"begin", "SELECT 1", "commit"}, own.sql)
	require.Empty(t, log.String()) // its level is Info
	c.RefuseConnections("28000")
	pool.Reset()
	require.Error(t, pool.Ping(t.Context()))
	require.Contains(t, log.String(), "dsql: connect failed")
	require.Contains(t, log.String(), "k=v")
}

type queries struct{ sql []string }

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	q.sql = append(q.sql, data.SQL)
	return ctx
}
func (*queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestOptionsAreChecked(t *testing.T) {
	for _, opt := range []dsqlotel.Option{nil, dsqlotel.WithMeterProvider(nil), dsqlotel.WithTracerProvider(nil)} {
		_, err := dsqlotel.New(opt)
		require.ErrorContains(t, err, "otel: ")
	}
	_, err := dsqlotel.New()
	require.NoError(t, err)
}

// exercised returns all metrics, by their names in Prometheus.
func exercised(t *testing.T) (names []string, inPrometheus []string) {
	c := dsqltest.Start(t)
	r := record(t)
	cfg := c.Config()
	creds, err := cfg.Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	creds.CanExpire, creds.Expires = true, time.Now().Add(time.Hour)
	pool := open(t, c, dsql.WithCredentials(aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) { return creds, nil })), r.Option())
	_, err = r.RecordPool(pool)
	require.NoError(t, err)
	createTable(t, pool)
	c.ConflictNext(1)
	require.NoError(t, r.RunTx(t.Context(), "x", pool, insert(1)))
	c.CutAtCommit(dsqltest.AfterApplied)
	require.Error(t, r.RunTx(t.Context(), "x", pool, insert(2)))
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	_, err = pool.Acquire(ctx)
	require.Error(t, err)
	for name, m := range r.collect(t) {
		require.NotEmpty(t, m.Description, name)
		names = append(names, name)
		p := strings.ReplaceAll(name, ".", "_")
		if m.Unit == "s" {
			p += "_seconds"
		}
		switch data := m.Data.(type) {
		case metricdata.Histogram[float64], metricdata.Histogram[int64]:
			inPrometheus = append(inPrometheus, p+"_bucket", p+"_count", p+"_sum")
			continue
		case metricdata.Sum[int64]:
			if data.IsMonotonic {
				p += "_total"
			}
		}
		inPrometheus = append(inPrometheus, p)
	}
	return names, inPrometheus
}

// docs/operations.md lists every metric, and it and the dashboard use no other.
func TestTheDashboardAndThePageNameTheMetrics(t *testing.T) {
	names, inPrometheus := exercised(t)
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	listed := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:db|dsql)\\.client\\.[a-z_.]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		listed[m[1]] = true
	}
	require.ElementsMatch(t, names, slices.Collect(maps.Keys(listed)))

	raw, err := os.ReadFile("../docs/grafana.json")
	require.NoError(t, err)
	var dashboard struct {
		Title  string
		Panels []struct {
			Title, Description, Type string
			Targets                  []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(raw, &dashboard))
	require.NotEmpty(t, dashboard.Title)
	used := make(map[string]bool)
	for _, p := range dashboard.Panels {
		require.NotEmpty(t, p.Title)
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		require.NotEmpty(t, p.Description, p.Title)
		for _, target := range p.Targets {
			found := metricNames(target.Expr)
			require.NotEmpty(t, found, target.Expr)
			for _, name := range found {
				require.Contains(t, inPrometheus, name, p.Title)
				used[name] = true
			}
		}
	}
	require.GreaterOrEqual(t, len(used), 12)
	for _, name := range metricNames(string(page)) {
		require.Contains(t, inPrometheus, name)
	}
}

// metricNames returns the names of metrics in a text, without the one attribute that looks like one.
func metricNames(text string) []string {
	names := regexp.MustCompile(`\b(?:db|dsql)_client_[a-z_]+`).FindAllString(text, -1)
	return slices.DeleteFunc(names, func(name string) bool { return name == "db_client_connection_state" })
}
