package compat

import (
	"database/sql"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"
	"github.com/XSAM/otelsql"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

func openDB(t *testing.T) *sql.DB {
	t.Helper()
	c := dsqltest.Start(t)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestSQLX(t *testing.T) {
	ctx, plain := t.Context(), openDB(t)
	db := sqlx.NewDb(plain, "pgx") // "pgx" selects $1 as the placeholder
	if _, err := db.ExecContext(ctx, createCity); err != nil {
		t.Fatal(err)
	}
	if _, err := db.NamedExecContext(ctx, "INSERT INTO city VALUES (:name, :population)", city{"Quito", 1763000}); err != nil {
		t.Fatal(err)
	}
	err := occ.RunSQLTx(ctx, plain, func(tx *sql.Tx) error {
		txx := sqlx.Tx{Tx: tx, Mapper: db.Mapper}
		var c city
		if err := txx.GetContext(ctx, &c, "SELECT name, population FROM city WHERE name = $1", "Quito"); err != nil {
			return err
		}
		_, err := txx.ExecContext(ctx, "UPDATE city SET population = $1 WHERE name = $2", c.Population+1, c.Name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var cities []city
	if err := db.SelectContext(ctx, &cities, "SELECT * FROM city WHERE name = ANY($1)", []string{"Quito"}); err != nil || len(cities) != 1 || cities[0].Population != 1763001 {
		t.Fatal(cities, err)
	}
}

type book struct {
	bun.BaseModel `bun:"table:book"`
	ID            string `bun:"type:uuid,pk,default:gen_random_uuid()"`
	Title         string `bun:",notnull"`
	Copies        int64  `bun:",notnull"`
}

func TestBun(t *testing.T) {
	ctx, plain := t.Context(), openDB(t)
	db := bun.NewDB(plain, pgdialect.New())
	if _, err := db.NewCreateTable().Model((*book)(nil)).Exec(ctx); err != nil {
		t.Fatal(err)
	}
	emma := &book{Title: "Emma", Copies: 3}
	if _, err := db.NewInsert().Model(emma).Returning("id").Exec(ctx); err != nil || emma.ID == "" {
		t.Fatal(emma, err)
	}
	err := occ.RunSQLTx(ctx, plain, func(tx *sql.Tx) error {
		_, err := db.NewUpdate().Conn(tx).Model(emma).Set("copies = copies - 1").WherePK().Exec(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var found book
	if err := db.NewSelect().Model(&found).Where("title = ?", "Emma").Scan(ctx); err != nil || found.Copies != 2 {
		t.Fatal(found, err)
	}
	// A slice becomes an array column, which DSQL does not have.
	type tagged struct {
		Tags []string `bun:",array"`
	}
	_, err = db.NewCreateTable().Model((*tagged)(nil)).Exec(ctx)
	wantRefusal(t, err, "datatype character varying[] not supported")
}

func TestEnt(t *testing.T) {
	ctx, plain := t.Context(), openDB(t)
	if _, err := plain.ExecContext(ctx, createCity); err != nil {
		t.Fatal(err)
	}
	driver := entsql.OpenDB(dialect.Postgres, plain) // for ent.NewClient(ent.Driver(driver))
	insert, args := entsql.Dialect(dialect.Postgres).Insert("city").Columns("name", "population").Values("Quito", 1763000).Query()
	if err := driver.Exec(ctx, insert, args, nil); err != nil {
		t.Fatal(err)
	}
	var rows entsql.Rows
	query, args := entsql.Dialect(dialect.Postgres).Select("name", "population").From(entsql.Table("city")).Query()
	if err := driver.Query(ctx, query, args, &rows); err != nil {
		t.Fatal(err)
	}
	var cities []city
	if err := entsql.ScanSlice(&rows, &cities); err != nil || len(cities) != 1 {
		t.Fatal(cities, err)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
}

// ent's default int IDs become identity columns without CACHE. Tables with UUID IDs can be created.
func TestEntMigrates(t *testing.T) {
	driver := entsql.OpenDB(dialect.Postgres, openDB(t))
	migrate, err := schema.NewMigrate(driver)
	if err != nil {
		t.Fatal(err)
	}
	table := func(name string, id *schema.Column, indexes ...*schema.Index) *schema.Table {
		return &schema.Table{Name: name, Columns: []*schema.Column{id}, PrimaryKey: []*schema.Column{id}, Indexes: indexes}
	}
	number := &schema.Column{Name: "id", Type: field.TypeInt, Increment: true}
	wantRefusal(t, migrate.Create(t.Context(), table("numbers", number)),
		"identity column is not supported without an explicit cache size. please define CACHE greater than or equal to 65536 or equal to 1")
	id := &schema.Column{Name: "id", Type: field.TypeUUID}
	if err := migrate.Create(t.Context(), table("cities", id)); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, migrate.Create(t.Context(), table("a", id), table("b", id)), "multiple ddl statements not supported in a transaction")
	index := &schema.Index{Name: "c_id", Columns: []*schema.Column{id}}
	wantRefusal(t, migrate.Create(t.Context(), table("c", id, index)), "unsupported mode. please use CREATE INDEX ASYNC.")
}

// golang-migrate locks with an advisory lock.
func TestGolangMigrateCannotLock(t *testing.T) {
	_, err := migratepgx.WithInstance(openDB(t), &migratepgx.Config{})
	if err == nil || !strings.Contains(err.Error(), "function pg_advisory_lock not supported") {
		t.Fatal(err)
	}
}

// otelsql wraps a Connector. Spans contain the statements and no token.
func TestOTelSQL(t *testing.T) {
	c := dsqltest.Start(t)
	connector, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: c.Endpoint()}, c.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	recorder := tracetest.NewSpanRecorder()
	traces := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))
	db := otelsql.OpenDB(connector, otelsql.WithTracerProvider(traces))
	defer db.Close()
	err = occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "SELECT 1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, span := range recorder.Ended() {
		names = append(names, span.Name())
	}
	for _, want := range []string{"sql.connector.connect", "sql.conn.exec", "sql.tx.commit"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("no span %s in %v", want, names)
		}
	}
}
