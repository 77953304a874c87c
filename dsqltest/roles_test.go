package dsqltest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

// refusedAs returns why a connection as a role is refused.
func refusedAs(t *testing.T, c *Cluster, role string) string {
	t.Helper()
	_, err := dsql.Connect(t.Context(), c.Endpoint(), c.Region(), append(c.Options(), dsql.WithUser(role))...)
	require.True(t, dsql.IsAccessDenied(err), "%v", err)
	refusal, ok := c.LastRefusal()
	require.True(t, ok)
	require.Equal(t, "28000", refusal.Code)
	require.Empty(t, refusal.Hint)
	return refusal.Reason
}

func TestARoleConnectsOnlyWhileItsPrincipalIsGranted(t *testing.T) {
	t.Parallel()
	c := Start(t)
	admin := connect(t, c)
	require.Contains(t, refusedAs(t, c, "app"), `"app" does not exist`)
	apply(t, admin, "CREATE ROLE app")
	require.Contains(t, refusedAs(t, c, "app"), "may not log in")
	_, err := admin.Exec(t.Context(), "AWS IAM GRANT app TO '"+c.Principal()+"'")
	requireError(t, err, "22023", "role app must have the LOGIN attribute")
	apply(t, admin, "ALTER ROLE app WITH LOGIN")
	require.Contains(t, refusedAs(t, c, "app"), "is not granted to "+c.Principal())
	apply(t, admin, "AWS IAM GRANT app TO 'arn:aws:iam::123456789012:role/another'")
	require.Contains(t, refusedAs(t, c, "app"), "is not granted to "+c.Principal())
	apply(t, admin, "AWS IAM GRANT app TO '"+c.Principal()+"'")

	app := connect(t, c, dsql.WithUser("app"))
	var user string
	require.NoError(t, app.QueryRow(t.Context(), "SELECT current_user").Scan(&user))
	require.Equal(t, "app", user)

	apply(t, admin, "AWS IAM REVOKE app FROM '"+c.Principal()+"'")
	require.Contains(t, refusedAs(t, c, "app"), "is not granted to")
	apply(t, admin, "AWS IAM REVOKE app FROM 'arn:aws:iam::123456789012:role/another'", "DROP ROLE app")
	require.Contains(t, refusedAs(t, c, "app"), `"app" does not exist`)
	require.NoError(t, app.Close(t.Context()))
}

func TestARoleWorksInItsSchemaAndNotInPublic(t *testing.T) {
	t.Parallel()
	c := Start(t, WithRole("worker"))
	admin := connect(t, c)
	apply(t, admin, "CREATE TABLE secret (id int)", "CREATE SCHEMA own", "GRANT USAGE, CREATE ON SCHEMA own TO worker")
	worker := connect(t, c, dsql.WithUser("worker"), dsql.WithRuntimeParam("search_path", "own"))
	apply(t, worker, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "CREATE INDEX ASYNC ON t (id)")
	for sql, message := range map[string]string{
		"CREATE TABLE public.t (id int)":                             "permission denied for schema public",
		"SELECT * FROM public.secret":                                "permission denied for table secret",
		"CREATE ROLE another WITH LOGIN":                             "permission denied to create role",
		"DROP ROLE worker":                                           "permission denied to drop role",
		"AWS IAM GRANT worker TO 'arn:aws:iam::123456789012:role/x'": "permission denied to grant IAM trust with role worker",
	} {
		_, err := worker.Exec(t.Context(), sql)
		requireError(t, err, "42501", message)
	}
	_, err := worker.Exec(t.Context(), "SET ROLE admin")
	require.ErrorContains(t, err, "0A000")
	apply(t, worker, "BEGIN")
	_, err = worker.Exec(t.Context(), "SET LOCAL role admin")
	require.ErrorContains(t, err, "42501")
	apply(t, worker, "ROLLBACK")
	_, err = admin.Exec(t.Context(), "GRANT admin TO worker")
	require.ErrorContains(t, err, "0A000")

	_, err = admin.Exec(t.Context(), "DROP ROLE worker")
	requireConflictOr(t, err, "2BP01", `role "worker" cannot be dropped because some objects depend on it`)
	_, err = admin.Exec(t.Context(), "DROP ROLE worker")
	requireError(t, err, "2BP01", `role "worker" cannot be dropped because some objects depend on it`)
}

// requireConflictOr also accepts a schema conflict, as after another session's DDL.
func requireConflictOr(t *testing.T, err error, code, message string) {
	t.Helper()
	if occ.ConflictKind(err) != occ.SchemaConflict {
		requireError(t, err, code, message)
	}
}

func TestRolesOfOneNameInTwoClustersAreTwo(t *testing.T) {
	t.Parallel()
	a, b := Start(t), Start(t)
	for _, c := range []*Cluster{a, b} {
		admin := connect(t, c)
		apply(t, admin, "CREATE ROLE same WITH LOGIN", "AWS IAM GRANT same TO '"+c.Principal()+"'")
		_, err := admin.Exec(t.Context(), "CREATE ROLE same WITH LOGIN")
		requireError(t, err, "42710", `role "same" already exists`)
	}
	admin := connect(t, a)
	apply(t, admin, "AWS IAM REVOKE same FROM '"+a.Principal()+"'", "DROP ROLE same")
	require.Contains(t, refusedAs(t, a, "same"), "does not exist")
	connect(t, b, dsql.WithUser("same"))
}

// A role keeps what it owns, may use and is granted to under its new name, as on DSQL since 2026-04-24.
func TestARenamedRoleKeepsWhatItOwnsAndMayUse(t *testing.T) {
	t.Parallel()
	c, other := Start(t), Start(t)
	const setup = `CREATE ROLE "a=b" WITH LOGIN; CREATE ROLE reader; CREATE TABLE secret (id int, n int, s text); CREATE SEQUENCE sq CACHE 1; CREATE SCHEMA own; CREATE SCHEMA shared;
		CREATE FUNCTION shared.f() RETURNS int LANGUAGE sql AS 'SELECT 7'; CREATE TABLE shared.t (id int); CREATE DOMAIN dom AS text;
		GRANT USAGE, CREATE ON SCHEMA own TO "a=b"; GRANT USAGE ON SCHEMA shared TO "a=b"; GRANT SELECT (id), UPDATE (n) ON secret TO "a=b" WITH GRANT OPTION;
		GRANT USAGE ON SEQUENCE sq TO "a=b"; REVOKE EXECUTE ON FUNCTION shared.f() FROM PUBLIC; GRANT EXECUTE ON FUNCTION shared.f() TO "a=b";
		GRANT SELECT ON shared.t TO reader; GRANT reader TO "a=b"; ALTER DEFAULT PRIVILEGES IN SCHEMA own GRANT SELECT ON TABLES TO "a=b"`
	for _, cluster := range []*Cluster{c, other} {
		admin := connect(t, cluster)
		apply(t, admin, strings.Split(setup, ";")...)
		apply(t, admin, `AWS IAM GRANT "a=b" TO '`+cluster.Principal()+`'`)
		session := connect(t, cluster, dsql.WithUser("a=b"), dsql.WithRuntimeParam("search_path", "own"))
		apply(t, session, "CREATE TABLE mine (id int PRIMARY KEY)", "CREATE VIEW v AS SELECT id FROM mine", "INSERT INTO mine VALUES (1)", "GRANT SELECT ON mine TO reader", "CREATE DOMAIN d AS text")
	}

	admin := connect(t, c)
	apply(t, admin, `ALTER USER "a=b" RENAME TO "New ""role"`, "CREATE TABLE own.later (id int)")
	require.Contains(t, refusedAs(t, c, "a=b"), "does not exist")
	renamed := connect(t, c, dsql.WithUser(`New "role`), dsql.WithRuntimeParam("search_path", "own"))
	apply(t, renamed, "INSERT INTO mine VALUES (2)", "ALTER TABLE mine ADD COLUMN n int", "SELECT id FROM v", "SELECT id FROM later", "SELECT id FROM public.secret", "UPDATE public.secret SET n = 1",
		"SELECT nextval('public.sq')", "SELECT shared.f()", "SELECT id FROM shared.t", "CREATE TABLE more (id int)", "GRANT SELECT (id) ON public.secret TO reader", "REVOKE SELECT ON mine FROM reader", "DROP VIEW v")
	_, err := renamed.Exec(t.Context(), "SELECT s FROM public.secret")
	requireError(t, err, "42501", "permission denied for table secret")
	_, err = admin.Exec(t.Context(), `DROP ROLE "New ""role"`)
	requireConflictOr(t, err, "2BP01", `role "New "role" cannot be dropped because some objects depend on it`)
	var arn string
	require.NoError(t, connect(t, c).QueryRow(t.Context(), `SELECT arn FROM sys.iam_pg_role_mappings WHERE pg_role_name = 'New "role'`).Scan(&arn))
	require.Equal(t, c.Principal(), arn)

	admin = connect(t, c)
	_, err = admin.Exec(t.Context(), `ALTER ROLE reader RENAME TO "New ""role"`)
	requireError(t, err, "42710", `role "New "role" already exists`)
	apply(t, admin, `CREATE ROLE "a=b" WITH LOGIN`, `AWS IAM GRANT "a=b" TO '`+c.Principal()+`'`)
	again := connect(t, c, dsql.WithUser("a=b"))
	_, err = again.Exec(t.Context(), "SELECT id FROM own.mine")
	requireError(t, err, "42501", "permission denied for schema own")

	elsewhere := connect(t, other, dsql.WithUser("a=b"))
	apply(t, elsewhere, "SELECT id FROM own.mine", "SELECT id FROM public.secret")
}
