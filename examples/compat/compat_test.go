package compat

import (
	"errors"
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
)

// newPool is a pool that the caller makes, from a Connector.
func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	c := dsqltest.Start(t)
	cfg := dsql.Config{Endpoint: c.Endpoint()}
	for _, opt := range c.Options() {
		if err := opt(&cfg); err != nil {
			t.Fatal(err)
		}
	}
	connector, err := dsql.NewConnector(t.Context(), cfg)
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
	quito, err := dsql.RunTxValue(t.Context(), pool, func(tx pgx.Tx) (c city, err error) {
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

func TestRiversMigrationsAreRefused(t *testing.T) {
	migrator, err := rivermigrate.New(riverpgxv5.New(newPool(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Message != `type "bigserial" does not exist` {
		t.Fatalf("%v", err)
	}
}
