package dsqltest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func TestCatalogShowsOneCluster(t *testing.T) {
	first, second := connect(t, Start(t)), connect(t, Start(t))
	apply(t, first, "CREATE ROLE catalog_app WITH LOGIN", "CREATE ROLE catalog_group", `CREATE TABLE "T t" ("a b" int, c text, id int, PRIMARY KEY (id, "a b"))`)
	apply(t, second, "CREATE ROLE catalog_other WITH LOGIN")

	value := func(sql string) (value string) {
		t.Helper()
		require.NoError(t, first.QueryRow(t.Context(), sql).Scan(&value), sql)
		return value
	}
	require.Equal(t, "admin true,catalog_app true,catalog_group false", value("SELECT string_agg(rolname || ' ' || rolcanlogin, ',' ORDER BY rolname) FROM pg_roles"))
	require.Equal(t, "postgres", value("SELECT string_agg(datname, ',') FROM pg_database"))
	require.Equal(t, "postgres", value("SELECT current_catalog"))
	_, err := first.Exec(t.Context(), "CREATE TABLE nowhere.x.t (id int)")
	requireError(t, err, "0A000", `cross-database references are not implemented: "nowhere.x.t"`)
	require.Equal(t, "postgres", value("SELECT DISTINCT table_catalog FROM information_schema.tables"))
	require.Equal(t, "brin,btree,btree_index,btree_table,gin,gist,hash,heap,spgist", value("SELECT string_agg(amname, ',' ORDER BY amname) FROM pg_am"))
	require.Equal(t, "16.15", value("SELECT setting FROM pg_settings WHERE name = 'server_version'"))
	require.Equal(t, `PRIMARY KEY (id, "a b") INCLUDE (c)`, value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '\"T t\"'::regclass AND contype = 'p'"))
	apply(t, first, `ALTER TABLE "T t" ADD COLUMN "D" int`)
	require.Equal(t, `CREATE UNIQUE INDEX "T t_pkey" ON public."T t" USING btree_index (id, "a b") INCLUDE (c, "D")`, value("SELECT indexdef FROM pg_indexes WHERE tablename = 'T t'"))
	apply(t, first, `ALTER TABLE "T t" DROP COLUMN c`)
	require.Equal(t, `PRIMARY KEY (id, "a b") INCLUDE ("D")`, value("SELECT pg_get_constraintdef(oid, true) FROM pg_constraint WHERE conrelid = '\"T t\"'::regclass AND contype = 'p'"))
	require.Equal(t, "id", value("SELECT pg_get_indexdef('\"T t_pkey\"'::regclass, 1, true)"))
}

func TestStorageModes(t *testing.T) {
	conn := connect(t, Start(t))
	apply(t, conn, `CREATE TABLE t (id int STORAGE PLAIN PRIMARY KEY, a text STORAGE EXTERNAL NOT NULL, "B b" text STORAGE main, n numeric STORAGE DEFAULT, d text)`,
		"ALTER TABLE t ADD COLUMN e bytea STORAGE PLAIN", "ALTER TABLE t ADD f text STORAGE DEFAULT", "ALTER TABLE t ALTER d SET STORAGE MAIN")
	modes := func() (modes string) {
		t.Helper()
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT string_agg(attstorage::text, '' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0").Scan(&modes))
		return modes
	}
	require.Equal(t, "pemmmpx", modes())
	apply(t, conn, `ALTER TABLE t ALTER "B b" SET STORAGE DEFAULT, ALTER COLUMN n SET STORAGE EXTERNAL`, "ALTER TABLE t ALTER a SET STORAGE DEFAULT")
	require.Equal(t, "pxxempx", modes())
	_, err := conn.Exec(t.Context(), "CREATE TABLE u (id int STORAGE EXTENDED)")
	requireError(t, err, "0A000", "column data type integer can only have storage PLAIN")
}

// What a statement's words do not show, the engine refuses.
func TestFunctionsThatSQLFunctionsCallAreRefused(t *testing.T) {
	conn := connect(t, Start(t))
	apply(t, conn, "CREATE FUNCTION locks() RETURNS boolean LANGUAGE sql AS 'SELECT pg_try_advisory_lock(1)'",
		"CREATE FUNCTION sets() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT set_config('a.b', 'c', true); END")
	_, err := conn.Exec(t.Context(), "SELECT locks()")
	requireError(t, err, "0A000", "function pg_try_advisory_lock not supported")
	_, err = conn.Exec(t.Context(), "SELECT sets()")
	requireError(t, err, "0A000", `setting configuration parameter "a.b" not supported`)
}

// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/considerations.html
func TestErrorsNameTheDatabasePostgres(t *testing.T) {
	c := Start(t)
	apply(t, connect(t, c), "CREATE ROLE maker WITH LOGIN", "AWS IAM GRANT maker TO '"+c.Principal()+"'")
	_, err := connect(t, c, dsql.WithUser("maker")).Exec(t.Context(), "CREATE SCHEMA app")
	requireError(t, err, "42501", "permission denied for database postgres")
}

// TypeORM casts a table's name with its catalog, as information_schema has it, to regclass.
func TestNamesMayBeginWithTheDatabase(t *testing.T) {
	c := Start(t)
	conn := connect(t, c)
	apply(t, conn, `CREATE TABLE postgres.public."T.t" (id int PRIMARY KEY)`, `INSERT INTO postgres.public."T.t" VALUES (1)`, "CREATE SCHEMA postgres", "CREATE TABLE postgres.t (id int)", "CREATE TABLE t (id int)")
	for sql, want := range map[string]string{
		`SELECT (quote_ident(table_catalog) || '.' || quote_ident(table_schema) || '.' || quote_ident(table_name))::regclass::text FROM information_schema.tables WHERE table_name = 'T.t'`: `"T.t"`,
		`SELECT to_regclass('"postgres"."public"."T.t"')::text`:             `"T.t"`,
		`SELECT to_regclass('POSTGRES.public.t')::text`:                     "t",
		`SELECT to_regclass('postgres.t')::text`:                            "postgres.t",
		`SELECT ('postgres.t'::text)::regclass::text`:                       "postgres.t",
		`SELECT coalesce(to_regclass('postgres.public.missing')::text, '')`: "",
		`SELECT postgres.public."T.t".id::text FROM postgres.public."T.t"`:  "1",
		`SELECT count(postgres.t.id)::text FROM postgres.t`:                 "0",
	} {
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&got), sql)
		require.Equal(t, want, got, sql)
	}
	apply(t, conn, `SELECT FROM t, postgres.public."T.t"`, `SELECT FROM (postgres.public.t CROSS JOIN postgres.t)`,
		`DELETE FROM t USING postgres.public."T.t"`, "CREATE INDEX ASYNC ON postgres.public.t (id)", "CREATE ROLE r",
		"GRANT SELECT ON t, postgres.public.t TO r", "CREATE VIEW v AS SELECT postgres.public.t.* FROM postgres.public.t",
		"DROP VIEW IF EXISTS v, postgres.public.missing", "DROP TABLE t, postgres.postgres.t")
	_, err := conn.Exec(t.Context(), "SELECT ('other.public.t'::text)::regclass")
	requireError(t, err, "0A000", `cross-database references are not implemented: "other.public.t"`)
}

// Tools that see version 16 ask for its columns: pgAdmin for those of roles and subscriptions.
func TestCatalogHasTheColumnsOfVersion16(t *testing.T) {
	conn := connect(t, Start(t))
	apply(t, conn, "CREATE ROLE member", "CREATE ROLE granted", "GRANT granted TO member",
		"SELECT suborigin, subpasswordrequired, subrunasowner FROM pg_subscription", "SELECT daticurules, datcollversion FROM pg_database",
		"SELECT collicurules, colliculocale FROM pg_collation", "SELECT indnullsnotdistinct FROM pg_index", "SELECT * FROM pg_publication_namespace")
	var inherit, set bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT inherit_option, set_option FROM pg_auth_members WHERE roleid = 'granted'::regrole AND member = 'member'::regrole").Scan(&inherit, &set))
	require.True(t, inherit && set)
}
