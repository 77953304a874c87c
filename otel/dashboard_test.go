package otel_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

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
