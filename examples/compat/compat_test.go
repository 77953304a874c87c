package compat

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// newPool returns a pool built from a Connector.
func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	c := dsqltest.Start(t)
	connector, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: c.Endpoint()}, c.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), connector.PoolConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

type city struct {
	Name       string
	Population int64
}

func TestScany(t *testing.T) {
	pool := newPool(t)
	for _, sql := range []string{
		"CREATE TABLE city (name text PRIMARY KEY, population bigint NOT NULL)",
		"INSERT INTO city VALUES ('Lagos', 15946000), ('Quito', 1763000)",
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var cities []city
	if err := pgxscan.Select(t.Context(), pool, &cities, "SELECT name, population FROM city ORDER BY name"); err != nil {
		t.Fatal(err)
	}
	if len(cities) != 2 || cities[1] != (city{"Quito", 1763000}) {
		t.Fatalf("selected %v", cities)
	}
	quito, err := occ.RunTxValue(t.Context(), pool, func(tx pgx.Tx) (c city, err error) {
		err = pgxscan.Get(t.Context(), tx, &c, "UPDATE city SET population = population + 1 WHERE name = $1 RETURNING name, population", "Quito")
		return c, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if quito != (city{"Quito", 1763001}) {
		t.Fatalf("updated to %v", quito)
	}
}

func TestRiverTakesThePool(t *testing.T) {
	client, err := river.NewClient(riverpgxv5.New(newPool(t)), &river.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if !client.Driver().PoolIsSet() {
		t.Fatal("the client has no pool")
	}
}

type job struct{}

func (job) Kind() string { return "job" }

type worker struct{ river.WorkerDefaults[job] }

func (worker) Work(context.Context, *river.Job[job]) error { return nil }

// River's errors reach RunTx, which does not retry them.
func TestRiverInsertsNothingWithoutItsTables(t *testing.T) {
	pool := newPool(t)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	if err != nil {
		t.Fatal(err)
	}
	attempts := 0
	err = occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
		attempts++
		_, err := client.InsertTx(t.Context(), tx, job{}, nil)
		return err
	})
	wantRefusal(t, err, `relation "river_job" does not exist`)
	if attempts != 1 {
		t.Fatalf("%d attempts, not 1", attempts)
	}
}

func TestRiverDoesNotStartWithoutItsTables(t *testing.T) {
	workers := river.NewWorkers()
	river.AddWorker(workers, worker{})
	client, err := river.NewClient(riverpgxv5.New(newPool(t)), &river.Config{
		Logger:   slog.New(slog.DiscardHandler),
		PollOnly: true,
		Queues:   map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1}},
		Workers:  workers,
	})
	if err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, client.Start(t.Context()), `relation "river_queue" does not exist`)
}

// The parts of river_job in River's migrations 2 and 6.
func TestRiversJobsHaveNoTable(t *testing.T) {
	pool := newPool(t)
	for sql, want := range map[string]string{
		"CREATE TYPE river_job_state AS ENUM ('available')": "CREATE TYPE not supported",
		"CREATE TABLE river_job (attempted_by text[])":      "datatype text[] not supported",
		"CREATE TABLE river_job (unique_states bit(8))":     "datatype bit not supported",
		"LISTEN river_insert":                               "unsupported statement: Listen",
	} {
		_, err := pool.Exec(t.Context(), sql)
		wantRefusal(t, err, want)
	}
}

func TestRiversMigrationsAreRefused(t *testing.T) {
	migrator, err := rivermigrate.New(riverpgxv5.New(newPool(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	wantRefusal(t, err, `type "bigserial" does not exist`)
}

func wantRefusal(t *testing.T, err error, message string) {
	t.Helper()
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Message != message {
		t.Fatalf("%v, not %s", err, message)
	}
}
