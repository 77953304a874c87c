package dsqltest

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// fsOf returns files of names and texts.
func fsOf(pairs ...string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

func TestSchemaOfMigrationTools(t *testing.T) {
	for tool, fsys := range map[string]fstest.MapFS{
		"goose": fsOf(
			"2_name.sql", "-- +goose NO TRANSACTION\n-- +goose Up\nINSERT INTO city VALUES (1, 'a;b');\nCREATE INDEX ASYNC ON city (name);\n\n-- +goose Down\nDROP INDEX city_name_idx;\n",
			"10_twice.sql", "-- +goose Up\n-- +goose StatementBegin\nCREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT 2 * n; $$;\n-- +goose StatementEnd\nINSERT INTO city VALUES (twice(1), 'c');\n-- +goose Down\n-- +goose StatementBegin\nDROP FUNCTION twice;\n-- +goose StatementEnd\n",
			"1_city.sql", "-- a comment\n\n-- +GOOSE up\r\nCREATE TABLE city (id int PRIMARY KEY, name text);\r\nCREATE TABLE more (id int);\r\n-- +goose Down\r\nDROP TABLE city;\r\n"),
		"dbmate": fsOf(
			"1_city.sql", "-- migrate:up transaction:false\nCREATE TABLE city (id int PRIMARY KEY, name text);\nCREATE TABLE more (id int)\n-- migrate:down\nDROP TABLE city;\n",
			"2_rows.sql", "-- migrate:up\nINSERT INTO city VALUES (1, 'a;b'), (2, 'c');\n\n-- migrate:down\n"),
		"golang-migrate": fsOf(
			"1_city.down.sql", "DROP TABLE city;",
			"1_city.up.sql", "CREATE TABLE city (id int PRIMARY KEY, name text); CREATE TABLE more (id int);",
			"2_rows.down.sql", "DELETE FROM city;",
			"2_rows.up.sql", "BEGIN;\nINSERT INTO city VALUES (1, 'a;b');\nINSERT INTO city VALUES (2, 'c');\nCOMMIT;\n"),
		"sql-migrate": fsOf(
			"1.sql", "-- +migrate Up\nCREATE TABLE city (id int PRIMARY KEY, name text); CREATE TABLE more (id int);\nINSERT INTO city VALUES (1, 'a;b'), (2, 'c');\n-- +migrate Down\nDROP TABLE city;"),
	} {
		t.Run(tool, func(t *testing.T) {
			for range 2 { // executed, copied
				c := Start(t)
				Schema(t, c, fsys)
				var rows string
				require.NoError(t, connect(t, c).QueryRow(t.Context(), "SELECT string_agg(id || name, ',' ORDER BY id) FROM city, (SELECT count(*) FROM more) m").Scan(&rows))
				require.Equal(t, "1a;b,2c", rows)
			}
		})
	}
}

func TestSchemaRefuses(t *testing.T) {
	c := Start(t)
	for want, fsys := range map[string]fstest.MapFS{
		"V1__city.sql: files of Flyway are not supported":                fsOf("V1__city.sql", "SELECT 1"),
		"1.sql: files of tern are not supported":                         fsOf("1.sql", "SELECT 1;\n---- create above / drop below ----\nSELECT 2;"),
		"1.sql: files of Liquibase are not supported":                    fsOf("1.sql", "--liquibase formatted sql\nSELECT 1;"),
		"1.sql: files of goose with ENVSUB are not supported":            fsOf("1.sql", "-- +goose Up\n-- +goose ENVSUB ON\nSELECT 1;"),
		`2.sql: must begin with "-- +goose up", as the other files`:      fsOf("1.sql", "-- +goose Up\nSELECT 1;", "2.sql", "SELECT 1;"),
		`1.sql: must have "-- migrate:up", as the other files of dbmate`: fsOf("1.sql", "-- migrate:down\n"),
		`has no "-- +goose statementend"`:                                fsOf("1.sql", "-- +goose Up\n-- +goose StatementBegin\nSELECT 1;"),
		`must have one "-- +goose up", and has two`:                      fsOf("1.sql", "-- +goose Up\nSELECT 1;\n-- +goose Up\n"),
		"must be of one tool":                                            fsOf("1.sql", "-- +goose Up\nSELECT 1;", "2.sql", "-- migrate:up\nSELECT 1;"),
		"1.down.sql: there must be files *.up.sql too":                   fsOf("1.down.sql", "SELECT 1;"),
		"1.sql: BEGIN must be followed by COMMIT":                        fsOf("1.sql", "BEGIN; SELECT 1;", "2.sql", "COMMIT"),
		"1.sql: COMMIT: there must be a BEGIN before it":                 fsOf("1.sql", "SELECT 1; COMMIT"),
	} {
		require.ErrorContains(t, c.ApplySchema(t.Context(), fsys), want)
	}
	require.Zero(t, c.Stats(), "nothing was executed")
}

func TestSchemaRetriesATransactionAsAWhole(t *testing.T) {
	c := Start(t)
	conn := connect(t, c) // so that the schema is executed here
	apply(t, conn, "CREATE TABLE t (id int)")
	c.SchemaConflictNext(1)
	Schema(t, c, fsOf("1.sql", "BEGIN;\nINSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2);\nCOMMIT;\nINSERT INTO t VALUES (3);"))
	require.Equal(t, 1, c.Stats().Conflicts)
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 3, n)

	require.ErrorContains(t, c.ApplySchema(t.Context(), fsOf("1.sql", "BEGIN; INSERT INTO t VALUES (4); SELECT 1/0; COMMIT")), "1.sql: SELECT 1/0: ERROR: division by zero")
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 3, n)
}

func TestCopiedSchema(t *testing.T) {
	fsys := fsOf("1.sql", "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); GRANT USAGE ON SCHEMA s TO app; GRANT INSERT, SELECT ON s.t TO app;")
	first, second := Start(t, WithRole("app")), Start(t, WithRole("app"), WithPeer("us-west-2"))
	for id, c := range []*Cluster{first, second, second.Peer()} {
		if c != second.Peer() {
			Schema(t, c, fsys)
			require.Zero(t, c.Stats(), "the schema was copied")
		}
		pool := newPool(t, c, dsql.WithUser("app"))
		_, err := pool.Exec(t.Context(), "INSERT INTO s.t VALUES ($1)", id)
		require.NoError(t, err)
	}
	var n int
	require.NoError(t, connect(t, second).QueryRow(t.Context(), "SELECT count(*) FROM s.t").Scan(&n))
	require.Equal(t, 2, n, "the first cluster's row is its own")

	// A second schema adds to the first.
	third := Start(t)
	Schema(t, third, fsOf("1.sql", "CREATE TABLE a (id int)"))
	Schema(t, third, fsOf("1.sql", "CREATE TABLE b (id int)"))
	apply(t, connect(t, third), "SELECT FROM a, b")
}

func BenchmarkSchemaOf80Statements(b *testing.B) {
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "CREATE TABLE t%d (id int PRIMARY KEY, n int);\nINSERT INTO t%d VALUES (1, 1);\n", i, i)
	}
	fsys := fsOf("1.sql", text.String())
	Schema(b, Start(b), fsys)
	var spent time.Duration
	for range b.N {
		c := Start(b)
		began := time.Now()
		Schema(b, c, fsys)
		spent += time.Since(began)
	}
	b.ReportMetric(float64(spent.Microseconds())/1000/float64(b.N), "ms/schema")
}
