package otel

import (
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Attributes for which the semantic conventions have none.
const (
	outcomeKey     = attribute.Key("dsql.outcome")
	conflictKey    = attribute.Key("dsql.conflict.kind")
	transactionKey = attribute.Key("dsql.transaction.name")
	attemptKey     = attribute.Key("dsql.attempt.number")
	delayKey       = attribute.Key("dsql.attempt.delay")
	roleKey        = attribute.Key("dsql.role")
)

// instruments are named by the semantic conventions for database clients (db.client.*) where those
// have a name.
type instruments struct {
	connects    metric.Int64Counter
	connectTime metric.Float64Histogram
	waitTime    metric.Float64Histogram
	pending     metric.Int64UpDownCounter
	timeouts    metric.Int64Counter
	tokens      metric.Int64Counter

	credentialsAge  metric.Float64ObservableGauge
	credentialsLeft metric.Float64ObservableGauge

	poolCount        metric.Int64ObservableUpDownCounter
	poolMax          metric.Int64ObservableUpDownCounter
	poolIdleMin      metric.Int64ObservableUpDownCounter
	poolConstructing metric.Int64ObservableUpDownCounter

	transactionTime metric.Float64Histogram
	attempts        metric.Int64Histogram
	conflicts       metric.Int64Counter
	unknownCommits  metric.Int64Counter
	queueTime       metric.Float64Histogram
}

// seconds are the buckets of durations, from a round trip within a Region to the 30 seconds after
// which occ gives up.
var seconds = metric.WithExplicitBucketBoundaries(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

// builder creates instruments and keeps the errors.
type builder struct {
	metric.Meter
	err error
}

func (b *builder) counter(name, unit, description string) metric.Int64Counter {
	i, err := b.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.err = errors.Join(b.err, err)
	return i
}

func (b *builder) duration(name, description string) metric.Float64Histogram {
	i, err := b.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), seconds)
	b.err = errors.Join(b.err, err)
	return i
}

func (b *builder) connections(name, description string) metric.Int64ObservableUpDownCounter {
	i, err := b.Int64ObservableUpDownCounter(name, metric.WithUnit("{connection}"), metric.WithDescription(description))
	b.err = errors.Join(b.err, err)
	return i
}

func (b *builder) gauge(name, description string) metric.Float64ObservableGauge {
	i, err := b.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(description))
	b.err = errors.Join(b.err, err)
	return i
}

func (i *instruments) create(meter metric.Meter) error {
	b := &builder{Meter: meter}
	i.connects = b.counter("dsql.client.connects", "{connect}", "Connects by outcome, and by cause of failure (error.type).")
	i.connectTime = b.duration("db.client.connection.create_time", "The time it took to create a new connection.")
	i.waitTime = b.duration("db.client.connection.wait_time", "The time it took to obtain an open connection from the pool.")
	i.timeouts = b.counter("db.client.connection.timeouts", "{timeout}", "The number of connection timeouts that have occurred trying to obtain a connection from the pool.")
	i.tokens = b.counter("dsql.client.tokens", "{token}", "Tokens signed, and credentials that could not be obtained.")
	i.credentialsAge = b.gauge("dsql.client.credentials.age", "The time since the AWS credentials in use were first used.")
	i.credentialsLeft = b.gauge("dsql.client.credentials.remaining", "The time until the AWS credentials in use expire.")
	i.poolCount = b.connections("db.client.connection.count", "The number of connections that are currently in state described by the state attribute.")
	i.poolMax = b.connections("db.client.connection.max", "The maximum number of open connections allowed.")
	i.poolIdleMin = b.connections("db.client.connection.idle.min", "The minimum number of idle open connections allowed.")
	i.poolConstructing = b.connections("dsql.client.connection.constructing", "The number of connections that are being opened.")
	i.transactionTime = b.duration("dsql.client.transaction.duration", "Transactions from the first attempt to the outcome, retries included.")
	i.conflicts = b.counter("dsql.client.transaction.conflicts", "{conflict}", "Attempts that failed with a conflict, by kind.")
	i.unknownCommits = b.counter("dsql.client.transaction.unknown_commits", "{commit}", "Transactions whose COMMIT was sent and not answered, and not settled by a check.")
	i.queueTime = b.duration("dsql.client.transaction.queue.duration", "The part of a transaction that was spent before its attempts: for a serial key, between attempts, for a connection.")
	var err error
	i.pending, err = meter.Int64UpDownCounter("db.client.connection.pending_requests", metric.WithUnit("{request}"),
		metric.WithDescription("The number of current pending requests for an open connection."))
	b.err = errors.Join(b.err, err)
	i.attempts, err = meter.Int64Histogram("dsql.client.transaction.attempts", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts of a transaction."), metric.WithExplicitBucketBoundaries(1, 2, 3, 5, 8, 13, 21, 50, 100))
	return errors.Join(b.err, err)
}
