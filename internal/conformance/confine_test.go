package conformance

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatementsStayInTheRunsSchemas(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT 1":                           "SELECT 1",
		"CREATE TABLE public.users (id int)": "CREATE TABLE run.users (id int)",
		"GRANT SELECT ON t TO PUBLIC":        "GRANT SELECT ON t TO PUBLIC",
		"GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC": "GRANT SELECT ON ALL TABLES IN SCHEMA run TO PUBLIC",
		"CREATE SCHEMA s9":                     "CREATE SCHEMA run_s9",
		"ALTER TABLE c SET SCHEMA s9":          "ALTER TABLE c SET SCHEMA run_s9",
		"ALTER TABLE s9.c RENAME TO d":         "ALTER TABLE run_s9.c RENAME TO d",
		"DROP SCHEMA s9 CASCADE":               "DROP SCHEMA run_s9 CASCADE",
		"ALTER SEQUENCE q OWNED BY c.id":       "ALTER SEQUENCE q OWNED BY c.id",
		"COMMENT ON COLUMN users.name IS 'n'":  "COMMENT ON COLUMN users.name IS 'n'",
		"ALTER TABLE t ENABLE TRIGGER USER;":   "ALTER TABLE t ENABLE TRIGGER USER;",
		"ALTER FUNCTION fn() OWNER TO admin;":  "ALTER FUNCTION fn() OWNER TO admin;",
		"SET search_path TO public":            "SET search_path TO run",
		"CREATE INDEX ASYNC public.i ON t (n)": "CREATE INDEX ASYNC run.i ON t (n)",
		"DROP INDEX public.i":                  "DROP INDEX run.i",
	} {
		c := confinement{schema: "run", created: map[string]string{"s9": "run_s9"}}
		row, why := c.prepare(Row{SQL: sql})
		require.Empty(t, why, sql)
		require.Equal(t, want, row.SQL)
	}
}

func TestHarmfulStatementsAreSkipped(t *testing.T) {
	for sql, want := range map[string]string{
		"CREATE ROLE app WITH LOGIN":                                "is about the whole cluster",
		"ALTER USER admin WITH PASSWORD 'x'":                        "is about the whole cluster",
		"DROP ROLE app":                                             "is about the whole cluster",
		"AWS IAM GRANT app TO 'arn:aws:iam::123456789012:role/r'":   "changes who may connect to the cluster",
		"aws iam revoke app from 'x'":                               "changes who may connect to the cluster",
		"GRANT app TO admin":                                        "is about the whole cluster",
		"GRANT CONNECT ON DATABASE postgres TO PUBLIC":              "is about the whole cluster",
		"GRANT USAGE ON SCHEMA public TO PUBLIC":                    "is about a schema that is not the run's",
		"GRANT SELECT ON t TO app":                                  "is about the whole cluster",
		"ALTER SYSTEM SET work_mem = '1MB'":                         "is about the whole cluster",
		"CREATE DATABASE d":                                         "is about the whole cluster",
		"DROP DATABASE postgres":                                    "is about the whole cluster",
		"CREATE TABLESPACE s LOCATION '/tmp'":                       "is about the whole cluster",
		"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC": "is about the whole cluster",
		"REASSIGN OWNED BY a TO b":                                  "is about the whole cluster",
		"DROP OWNED BY admin":                                       "is not known",
		"DROP SCHEMA public CASCADE":                                "is about a schema that is not the run's",
		"DROP SCHEMA theirs":                                        "is about a schema that is not the run's",
		"DROP SCHEMA s9, theirs":                                    "is about a schema that is not the run's",
		"ALTER SCHEMA public RENAME TO x":                           "is not known",
		"DROP TABLE theirs.t":                                       "is about a schema that is not the run's",
		"drop table if exists theirs.t":                             "is about a schema that is not the run's",
		"DELETE FROM theirs.t":                                      "is about a schema that is not the run's",
		"INSERT INTO sys.jobs VALUES (1)":                           "is about a schema that is not the run's",
		"UPDATE pg_catalog.pg_class SET relname = 'x'":              "is about a schema that is not the run's",
		"SELECT pg_terminate_backend(1)":                            "may have an effect outside",
		"COPY t FROM '/tmp/x.csv'":                                  "may have an effect outside",
		"SELECT 1; DROP ROLE app":                                   "is about the whole cluster",
		"SELECT arn FROM sys.iam_pg_role_mappings":                  "shows the roles and principals",
		"DROP EXTENSION plpgsql":                                    "is not known",
	} {
		c := confinement{schema: "run", created: map[string]string{"s9": "run_s9"}}
		_, why := c.prepare(Row{SQL: sql})
		require.Contains(t, why, want, sql)
		c = confinement{schema: "run", created: map[string]string{"s9": "run_s9"}}
		_, why = c.prepare(Row{Setup: []string{"!" + sql}, SQL: "SELECT 1"})
		require.Contains(t, why, want, sql)
	}
}

func TestWhatNeedsASkippedRoleIsSkipped(t *testing.T) {
	c := confinement{schema: "run", created: map[string]string{}}
	_, why := c.prepare(Row{SQL: "CREATE ROLE lint_r"})
	require.NotEmpty(t, why)
	_, why = c.prepare(Row{SQL: "SELECT 'lint_r'::regrole"})
	require.Equal(t, "needs lint_r, which is not created", why)
	_, why = c.prepare(Row{SQL: "SELECT 'lint_r2'"})
	require.Empty(t, why)
}

func TestAnswersNameNeitherTheRunNorTheAccount(t *testing.T) {
	c := confinement{schema: "run_1", created: map[string]string{"s9": "run_1_s9"}}
	a := c.restore(Answer{Message: `relation "run_1.t" of arn:aws:iam::123456789012:role/r at abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws`, Value: "run_1_s9.c 123456789012"})
	require.Equal(t, Answer{Message: `relation "public.t" of … at …`, Value: "s9.c …"}, a)
}
