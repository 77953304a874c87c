package otel

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-dsql/dsql/occ"
)

var errPanicked = errors.New("otel: the transaction panicked")

// RunTx calls occ.RunTx in a span. name names the kind of transaction, such as "transfer", and must
// be one of few. fn is given the span's context: statements that it runs with it belong to the
// span.
func (t *Telemetry) RunTx(ctx context.Context, name string, db occ.TxBeginner, fn func(context.Context, pgx.Tx) error, opts ...occ.RetryOption) error {
	return t.Transaction(ctx, name, func(ctx context.Context, observe occ.RetryOption) error {
		return occ.RunTx(ctx, db, func(tx pgx.Tx) error { return fn(ctx, tx) }, append(opts[:len(opts):len(opts)], observe)...)
	})
}

// Transaction puts a span around run, which calls a function of occ with the context and the option
// that it is given: RunTxValue, RunTxOf, RunSQLTx, RunBatch or Retry. name is as for RunTx.
//
//	err := tel.Transaction(ctx, "transfer", func(ctx context.Context, observe occ.RetryOption) error {
//		return occ.RunBatch(ctx, pool, queue, observe)
//	})
//
// The span has an event for each attempt. Errors appear by their kind and not by their text, which
// may quote data.
func (t *Telemetry) Transaction(ctx context.Context, name string, run func(context.Context, occ.RetryOption) error) (err error) {
	name = cmp.Or(name, "transaction")
	ctx, span := t.tracer.Start(ctx, name, trace.WithAttributes(t.attributes...), trace.WithAttributes(transactionKey.String(name)))
	now := time.Now()
	x := &transaction{t: t, span: span, ctx: ctx, name: name, start: now, waiting: now}
	err = errPanicked // unless run returns
	defer func() { x.end(err) }()
	return run(context.WithValue(ctx, transactionCtx{}, x), occ.WithOnRetry(x.retry))
}

type transactionCtx struct{}

// transaction is the state of one call.
type transaction struct {
	t     *Telemetry
	span  trace.Span
	ctx   context.Context // the span's
	name  string
	start time.Time

	mu      sync.Mutex
	failed  int           // the attempt that failed last
	waiting time.Time     // when it began to wait for its next attempt; zero: an attempt runs
	queued  time.Duration // until then
	traced  bool          // the connection has our tracer, so queued is known
}

// began is called when a statement begins. The first one after a wait is that of an attempt.
func began(ctx context.Context) {
	x, ok := ctx.Value(transactionCtx{}).(*transaction)
	if !ok {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.traced = true
	x.stopWaiting()
}

func (x *transaction) stopWaiting() {
	if !x.waiting.IsZero() {
		x.queued += time.Since(x.waiting)
		x.waiting = time.Time{}
	}
}

// retry is called when an attempt has failed and another is to follow.
func (x *transaction) retry(e occ.RetryEvent) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.attemptFailed(e.Attempt, e.Err, delayKey.Float64(e.Delay.Seconds()))
	if x.waiting.IsZero() {
		x.waiting = time.Now()
	}
}

func (x *transaction) attemptFailed(attempt int, err error, further ...attribute.KeyValue) {
	x.failed = attempt
	attributes := append(failure(err), attemptKey.Int(attempt))
	if occ.IsConflict(err) {
		kind := conflictKey.String(cmp.Or(string(occ.ConflictKind(err)), "_OTHER"))
		attributes = append(attributes, kind)
		x.t.conflicts.Add(x.ctx, 1, x.t.with(transactionKey.String(x.name), kind))
	}
	x.span.AddEvent("dsql.attempt", trace.WithAttributes(append(attributes, further...)...))
}

// end records the last attempt and the whole.
func (x *transaction) end(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.span.End()
	outcome := []attribute.KeyValue{transactionKey.String(x.name), outcomeKey.String(outcomeOf(err))}
	attempts := x.failed + 1
	var gaveUp *occ.RetryError
	if errors.As(err, &gaveUp) {
		attempts = gaveUp.Attempts
	}
	switch {
	case err == nil:
		x.span.AddEvent("dsql.attempt", trace.WithAttributes(attemptKey.Int(attempts), outcomeKey.String("ok")))
	case attempts > x.failed: // no retry was reported
		x.attemptFailed(attempts, err)
	}
	if errors.As(err, new(*occ.CommitUnknownError)) {
		x.t.unknownCommits.Add(x.ctx, 1, x.t.with(transactionKey.String(x.name)))
	}
	if err != nil {
		outcome = append(outcome, semconv.ErrorTypeKey.String(errorType(err)))
		x.span.SetStatus(codes.Error, errorType(err))
	}
	x.span.SetAttributes(outcome...)
	x.t.transactionTime.Record(x.ctx, time.Since(x.start).Seconds(), x.t.with(outcome...))
	x.t.attempts.Record(x.ctx, int64(attempts), x.t.with(transactionKey.String(x.name)))
	if x.traced {
		x.stopWaiting()
		x.t.queueTime.Record(x.ctx, x.queued.Seconds(), x.t.with(transactionKey.String(x.name)))
	}
}

// outcomeOf names how a transaction ended.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "committed"
	case errors.As(err, new(*occ.CommitUnknownError)):
		return "unknown"
	case errors.As(err, new(*occ.RetryError)):
		return "gave_up"
	}
	return "failed"
}
