package explain_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/occ"
)

// requireExplained requires an explanation of err that contains want, is in docs/errors.md with
// placeholders for the names, and survives wrapping.
func requireExplained(t *testing.T, err error, want ...string) {
	t.Helper()
	require.Error(t, err)
	text := dsql.Explain(err)
	for _, w := range want {
		require.Contains(t, text, w, err)
	}
	for _, secret := range harness.Secrets {
		require.NotContains(t, text, secret)
	}
	require.Equal(t, text, dsql.Explain(fmt.Errorf("wrapped: %w", errors.Join(errors.New("other"), err))))

	page, readErr := os.ReadFile("../../docs/errors.md")
	require.NoError(t, readErr)
	documented := strings.NewReplacer(host, "<endpoint>", harness.ClusterID, "<cluster ID>", "us-east-1", "<region>", "123456789012", "<account>",
		"app7", "<role>", "user=admin ", "user=<role> ", "the role admin ", "the role <role> ", "dsql:DbConnectAdmin", "dsql:DbConnect", "name7", "<name>", "type7", "<type>").Replace(text)
	documented = strings.ReplaceAll(documented, "<", "&lt;")
	require.Contains(t, string(page), documented)
}

// refusing answers every login with refusal.
func refusing(t *testing.T, refusal pgconn.PgError, opts ...dsql.Option) error {
	t.Helper()
	_, to := harness.Start(t, fakepg.Hooks{Password: func(*fakepg.Conn) error { return &refusal }})
	return harness.Ping(t, harness.NewPool(t, harness.With(to, opts...)...))
}

func TestExplainAccessDenied(t *testing.T) {
	const denied = "unable to accept connection, access denied"
	const arn = "arn:aws:dsql:us-east-1:123456789012:cluster/" + harness.ClusterID
	for _, tt := range []struct {
		name, role, code, hint string
		want                   []string
	}{
		{"IAM policy of a user", "app7", "08006", "User: arn:aws:iam::123456789012:user/x is not authorized to access this resource",
			[]string{"IAM does not allow dsql:DbConnect for", "dsql:DbConnect on arn:aws:dsql:us-east-1:<account>:cluster/" + harness.ClusterID}},
		{"IAM policy of a role, for admin", "admin", "08006", "User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: dsql:DbConnectAdmin on resource: " + arn + " because no identity-based policy allows the dsql:DbConnectAdmin action",
			[]string{"IAM does not allow dsql:DbConnectAdmin for", "dsql:DbConnectAdmin on " + arn}},
		{"wrong action", "app7", "08006", "Wrong user to action mapping. user: app7, action: DbConnectAdmin", []string{"different IAM action than dsql:DbConnect,"}},
		{"signature expired", "app7", "08006", "Signature expired: 20261008T120000Z is now earlier than 20261008T121501Z", []string{"had expired", "clock", "credentials"}},
		{"not granted", "app7", "28000", "", []string{"AWS IAM GRANT app7 TO '<ARN of the IAM principal>'"}},
		{"no reason given", "app7", "08006", "", []string{"role app7", "dsql:DbConnect on", "us-east-1", host, "clock"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := refusing(t, pgconn.PgError{Code: tt.code, Message: denied, Hint: tt.hint}, dsql.WithUser(tt.role))
			require.True(t, dsql.IsAccessDenied(err))
			requireExplained(t, err, tt.want...)
		})
	}
	t.Run("the region is the token's where the name does not tell it", func(t *testing.T) {
		cert, roots := fakepg.Certificate(t, "db.example.com")
		_, opts := harness.Start(t, fakepg.Hooks{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Password: func(*fakepg.Conn) error {
			return &pgconn.PgError{Code: "08006", Message: denied}
		}})
		_, err := dsql.Connect(t.Context(), "db.example.com", "eu-west-2", harness.With(opts, dsql.WithRootCAs(roots))...)
		require.Contains(t, dsql.Explain(err), "the cluster is in eu-west-2")
		require.Contains(t, dsql.Explain(err), "arn:aws:dsql:eu-west-2:<account>:cluster/<cluster ID>")
	})
}

func TestExplainRefusalsAtConnect(t *testing.T) {
	for _, tt := range []struct {
		name, code, message string
		want                []string
	}{
		{"no SNI", "08006", "unable to accept connection, sni was not received", []string{"SNI", "proxy"}},
		{"invalid SNI", "08006", "unable to accept connection, invalid sni", []string{"deleted", host}},
		{"waking up", "08006", "unable to accept connection, waking up cluster, please retry later", []string{"30 seconds"}},
		{"role missing", "28000", `Role app7 does not exist`, []string{"CREATE ROLE app7 WITH LOGIN", "AWS IAM GRANT app7"}},
		{"role without LOGIN", "28000", `role app7 must have the LOGIN attribute`, []string{"ALTER ROLE app7 WITH LOGIN"}},
		{"too many connections", "53300", "Unable to accept connection, too many open connections.", []string{"10,000", "pool_max_conns"}},
		{"too fast", "53400", "Unable to accept connection, rate exceeded.", []string{"100 per second", "WithConnectRate"}},
		{"parameter", "0A000", `setting configuration parameter "statement_timeout" not supported`, []string{"statement_timeout", "deadline on the context of each query"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requireExplained(t, refusing(t, pgconn.PgError{Code: tt.code, Message: tt.message}, dsql.WithUser("app7")), tt.want...)
		})
	}
}

func TestExplainAnswersToStatements(t *testing.T) {
	for _, tt := range []struct {
		name, code, message string
		want                []string
	}{
		{"data conflict", "40001", "change conflicts with another transaction (OC000)", []string{"same rows", "RunTx"}},
		{"schema conflict", "40001", "schema has been updated by another transaction (OC001)", []string{"DDL", "RunTx"}},
		{"savepoint", "0A000", "unsupported transaction statement: SAVEPOINT", []string{"no savepoints", "tx.Begin"}},
		{"second DDL", "0A000", "multiple ddl statements not supported in a transaction", []string{"one DDL"}},
		{"DDL with DML", "0A000", "ddl and dml are not supported in the same transaction", []string{"DDL by itself"}},
		{"synchronous index", "0A000", "unsupported mode. please use CREATE INDEX ASYNC.", []string{"sys.wait_for_job"}},
		{"advisory lock", "0A000", "function pg_advisory_lock not supported", []string{"no advisory locks"}},
		{"advisory lock that tries", "0A000", "function pg_try_advisory_lock not supported", []string{"no advisory locks"}},
		{"isolation level", "0A000", "Unsupported isolation level: SERIALIZABLE", []string{"repeatable read", "FOR UPDATE"}},
		{"SET TRANSACTION", "0A000", `setting configuration parameter "TRANSACTION" not supported`, []string{"pgx.TxOptions"}},
		{"parameter", "0A000", `setting configuration parameter "work_mem" not supported`, []string{"work_mem", "leave it out"}},
		{"parameter of no list", "0A000", `setting configuration parameter "jit" not supported`, []string{"jit", "leave it out"}},
		{"stale plan", "0A000", "cached plan must not change result type", []string{"prepared", "RunTx"}},
		{"other statement", "0A000", "unsupported statement: Frobnicate", []string{"postgresql-compatibility"}},
		{"row limit", "54000", "transaction row limit exceeded", []string{"3,000 rows", "batches"}},
		{"size limit", "54000", "transaction size limit 10mb exceeded", []string{"10 MiB", "batches"}},
		{"age limit", "54000", "transaction age limit of 300s exceeded", []string{"5 minutes"}},
		{"key size", "54000", "key size too large", []string{"1 KiB"}},
		{"statistics target", "22023", "statistics target 101 exceeds maximum allowed value of 100", []string{"up to 100"}},
		{"other limit", "54000", "more than 24 indexes per table are not allowed", []string{"CHAP_quotas"}},
		{"memory", "53200", "query requires too much temp space, out of memory.", []string{"128 MiB"}},
		{"memory, as observed", "54000", "query requires more than allowed temp space of 131072 KB to execute", []string{"128 MiB"}},
		{"storage", "53100", "Current cluster size exceeds cluster size limit.", []string{"storage quota"}},
		{"column size", "54000", "datatype limit greater than 1048576 bytes not supported for jsonb", []string{"1 MiB"}},
		{"serial", "42704", `type "serial" does not exist`, []string{"gen_random_uuid()", "IDENTITY (CACHE 65536)"}},
		{"smallserial", "42704", `type "smallserial" does not exist`, []string{"gen_random_uuid()"}},
		{"another type", "42704", `type "name7" does not exist`, []string{"type name7", "CHECK"}},
		{"text search", "42704", `text search configuration "english" does not exist`, []string{"simple"}},
		{"identity", "0A000", "identity column is not supported without an explicit cache size. please define CACHE greater than or equal to 65536 or equal to 1", []string{"(CACHE 65536)"}},
		{"identity of integer", "0A000", "datatype integer not supported, identity column type must be bigint", []string{"must be bigint"}},
		{"array", "0A000", "datatype text[] not supported", []string{"no array columns", "jsonb"}},
		{"another column type", "0A000", "datatype type7 not supported", []string{"type type7"}},
		{"key type", "0A000", "datatype type7 is not supported in a key", []string{"type type7"}},
		{"ADD COLUMN", "0A000", "ALTER TABLE ADD COLUMN with constraint not supported", []string{"SET DEFAULT", "NOT VALID"}},
		{"CONCURRENTLY", "0A000", "CONCURRENTLY not supported for CREATE INDEX", []string{"CREATE INDEX ASYNC", "sys.wait_for_job"}},
		{"TRUNCATE", "0A000", "unsupported statement: Truncate", []string{"DELETE"}},
		{"extension", "0A000", "unsupported statement: CreateExtension", []string{"gen_random_uuid()"}},
		{"cursor", "0A000", "unsupported statement: DeclareCursor", []string{"page through"}},
		{"GRANT on public", "0A000", "feature not supported on system entity", []string{"public", "search_path"}},
		{"GRANT on a database", "0A000", "unsupported object type in GRANT", []string{"Leave it out"}},
		{"partitions", "0A000", "PARTITION BY clause not supported for CREATE TABLE", []string{"partitions"}},
		{"row security", "0A000", "unsupported ALTER TABLE ENABLE ROW SECURITY statement", []string{"row-level security"}},
		{"privilege on a table", "42501", "permission denied for table name7", []string{"GRANT SELECT, INSERT, UPDATE, DELETE ON name7 TO <role>"}},
		{"privilege on a schema", "42501", "permission denied for schema name7", []string{"GRANT USAGE ON SCHEMA name7 TO <role>"}},
		{"privilege on public", "42501", "permission denied for schema public", []string{"CREATE SCHEMA", "search_path"}},
		{"privilege on a sequence", "42501", "permission denied for sequence name7", []string{"GRANT USAGE ON SEQUENCE name7"}},
		{"owner", "42501", "must be owner of table name7", []string{"owner of name7"}},
		{"another privilege", "42501", "permission denied to create role", []string{"Connect as admin, which"}},
		{"search_path", "3F000", "no schema has been selected to create in", []string{"search_path"}},
		{"schema", "3F000", `schema "name7" does not exist`, []string{"CREATE SCHEMA"}},
		{"index not valid", "55000", `index "name7" is not valid`, []string{"sys.wait_for_job", "sys.jobs"}},
		{"job as a function", "42809", "sys.wait_for_job(text) is a procedure", []string{"CALL"}},
		{"stale result formats", "08P01", "bind message has 2 result formats but query has 3 columns", []string{"prepared", "RunTx"}},
		{"read-only", "25006", "cannot execute INSERT in a read-only transaction", []string{"read-only", "AccessMode"}},
		{"server unavailable", "XX000", "server unavailable", []string{"Before COMMIT"}},
		{"aborted", "25P02", "current transaction is aborted, commands ignored until end of transaction block", []string{"earlier statement"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sql := &fakepg.SQL{Answer: func(fakepg.Statement) fakepg.Reply {
				return fakepg.Reply{Err: &pgconn.PgError{Code: tt.code, Message: tt.message}}
			}}
			_, opts := harness.Start(t, fakepg.Hooks{Session: sql.Session})
			_, err := harness.NewPool(t, opts...).Exec(t.Context(), "update t set n = 1")
			requireExplained(t, err, tt.want...)
		})
	}
}

func TestExplainHasNothingToAdd(t *testing.T) {
	sql := &fakepg.SQL{Answer: func(fakepg.Statement) fakepg.Reply {
		return fakepg.Reply{Err: &pgconn.PgError{Code: "23505", Message: `duplicate key value violates unique constraint "t_pkey" (OC000)`}}
	}}
	_, opts := harness.Start(t, fakepg.Hooks{Session: sql.Session})
	pool := harness.NewPool(t, opts...)
	_, err := pool.Exec(t.Context(), "update t set n = 1")
	require.Empty(t, dsql.Explain(err))
	require.Empty(t, dsql.Explain(nil))
	require.Empty(t, dsql.Explain(errors.New("own")))
	require.Empty(t, dsql.Explain(pgx.ErrNoRows))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dsql.Connect(ctx, host, "", opts...)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, dsql.Explain(err))

	d := newDeadline(t)
	d.expire()
	require.Empty(t, dsql.Explain(pool.Ping(d)), "a deadline of the caller's")
}

func TestExplainDenialOfAConnectionWithoutAToken(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{Password: func(*fakepg.Conn) error {
		return &pgconn.PgError{Code: "08006", Message: "unable to accept connection, access denied"}
	}})
	cfg := dsql.Config{Endpoint: host}
	for _, opt := range opts {
		require.NoError(t, opt(&cfg))
	}
	c, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)
	_, err = pgx.ConnectConfig(t.Context(), c.PoolConfig().ConnConfig) // BeforeConnect is left out
	require.Contains(t, dsql.Explain(err), "arn:aws:dsql:<region>:<account>:cluster/"+harness.ClusterID)
}

func TestExplainCredentials(t *testing.T) {
	for _, tt := range []struct {
		name  string
		creds aws.Credentials
		err   error
		want  []string
	}{
		{"none", aws.Credentials{}, errors.New("no role"), []string{"aws sts get-caller-identity", "WithProfile"}},
		{"empty", aws.Credentials{Source: "test"}, nil, []string{"aws sts get-caller-identity"}},
		{"expired", harness.Expiring(-time.Minute), nil, []string{"aws sso login", "renews"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			provider, _ := harness.Provider(func(context.Context, int64) (aws.Credentials, error) { return tt.creds, tt.err })
			_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(provider))
			requireExplained(t, err, tt.want...)
			require.ErrorContains(t, err, dsql.Explain(err), "NewPool's error has it already")
		})
	}
	t.Run("of an aws.Config without", func(t *testing.T) {
		_, err := dsql.NewPool(t.Context(), host, "", dsql.WithAWSConfig(aws.Config{}))
		requireExplained(t, err, "aws sts get-caller-identity")
	})
	t.Run("late", func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		provider, _ := harness.Provider(func(_ context.Context, call int64) (aws.Credentials, error) {
			if call > 1 {
				<-release
			}
			return harness.Expiring(time.Hour), nil
		})
		cache := aws.NewCredentialsCache(provider)
		pool := harness.NewPool(t, dsql.WithCredentials(cache), dsql.WithCredentialsTimeout(10*time.Millisecond))
		cache.Invalidate()
		requireExplained(t, harness.Ping(t, pool), "hop limit", "WithCredentialsTimeout")
	})
}

func TestExplainCutConnection(t *testing.T) {
	sql := &fakepg.SQL{Answer: func(fakepg.Statement) fakepg.Reply { return fakepg.Reply{Cut: true} }}
	_, opts := harness.Start(t, fakepg.Hooks{Session: sql.Session})
	conn, err := dsql.Connect(t.Context(), host, "", opts...)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "update t set n = 1")
	requireExplained(t, err, "60 minutes")
	_, err = conn.Exec(t.Context(), "update t set n = 1")
	requireExplained(t, err, "60 minutes")
}

func TestExplainUnknownCommit(t *testing.T) {
	sql := &fakepg.SQL{Answer: func(s fakepg.Statement) fakepg.Reply { return fakepg.Reply{Cut: s.SQL == "commit"} }}
	_, opts := harness.Start(t, fakepg.Hooks{Session: sql.Session})
	err := occ.RunTx(t.Context(), harness.NewPool(t, opts...), func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "update t set n = 1")
		return err
	})
	requireExplained(t, err, "outcome of the transaction is unknown", "only if nothing was written")
}

func TestExplanationIsPartOfConnectsError(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{Password: func(*fakepg.Conn) error {
		return &pgconn.PgError{Code: "28000", Message: "unable to accept connection, access denied"}
	}})
	_, err := dsql.Connect(t.Context(), host, "", harness.With(opts, dsql.WithUser("app7"))...)
	require.True(t, dsql.IsAccessDenied(err))
	require.True(t, strings.HasPrefix(err.Error(), "dsql: failed to connect"), err)
	require.ErrorContains(t, err, "AWS IAM GRANT app7 TO")
	require.Equal(t, 1, strings.Count(err.Error(), dsql.Explain(err)))
	for _, secret := range harness.Secrets {
		require.NotContains(t, err.Error(), secret)
	}
}

func TestRefusalWithoutAHintGetsOne(t *testing.T) {
	hintOf := func(err error) string {
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg)
		return pg.Hint
	}
	denied := pgconn.PgError{Code: "28000", Message: "unable to accept connection, access denied"}
	err := refusing(t, denied, dsql.WithUser("app7"))
	require.Equal(t, "dsql: IAM allows the connection, but the role app7 does not exist or is not granted to the IAM principal that the credentials belong to.", hintOf(err))
	require.Contains(t, dsql.Explain(err), "AWS IAM GRANT app7 TO", "a hint of this library is not taken for the server's")

	denied.Code, denied.Hint = "08006", "Signature expired: x"
	require.Equal(t, "Signature expired: x", hintOf(refusing(t, denied)), "DSQL's own stays")
	require.Empty(t, hintOf(refusing(t, pgconn.PgError{Code: "99999", Message: "x"})))

	var seen []string
	err = refusing(t, pgconn.PgError{Code: "53300", Message: "Unable to accept connection, too many open connections."},
		dsql.WithPoolConfig(func(p *pgxpool.Config) error {
			before := p.ConnConfig.OnPgError
			p.ConnConfig.OnPgError = func(c *pgconn.PgConn, e *pgconn.PgError) bool { seen = append(seen, e.Code); return before(c, e) }
			return nil
		}))
	require.Contains(t, hintOf(err), "dsql: The cluster has reached its quota of open connections")
	require.Equal(t, []string{"53300"}, seen, "the caller's handler is called")
}

func TestExplainProfileThatDoesNotExist(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("AWS_CONFIG_FILE", dir+"/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", dir+"/credentials")
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithProfile("nobody"))
	requireExplained(t, err, "aws configure list-profiles", "WithProfile")
	t.Setenv("AWS_PROFILE", "nobody")
	_, err = dsql.NewPool(t.Context(), host, "")
	requireExplained(t, err, "aws configure list-profiles", "AWS_PROFILE")
	require.ErrorContains(t, err, dsql.Explain(err), "NewPool's error includes it")
}

func TestExplainConnectRate(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{})
	db, err := dsql.OpenDB(t.Context(), host, "", harness.With(opts, dsql.WithConnectRate(0.001, 1))...)
	require.NoError(t, err)
	defer db.Close()
	held, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer held.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	requireExplained(t, db.PingContext(ctx), "connect limiter", "WithConnectRate")
}
