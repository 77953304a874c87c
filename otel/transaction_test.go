package otel_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
	dsqlotel "github.com/go-dsql/dsql/otel"
)

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
