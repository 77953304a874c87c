package explain

import (
	"regexp"
	"strings"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// stateCase explains the server's errors with a SQLSTATE (empty: any) whose message contains words.
type stateCase struct{ code, words, text string }

// stateCases are searched in order; the first match wins.
var stateCases = [][]stateCase{connectCases, transactionCases, limitCases, permissionCases, schemaCases, statementCases, lastCases}

var connectCases = []stateCase{
	{"", "sni was not received", "DSQL received no SNI and cannot tell which cluster is meant. A proxy or a load balancer that terminates TLS is in between: configure it to pass TCP through."},
	{"", "invalid sni", "DSQL knows no cluster by the SNI hostname. The cluster was deleted, its ID or region is wrong ({host}), or the connection is routed to another region or to a VPC endpoint of another service: compare with aws dsql get-cluster."},
	{"", "waking up cluster", "The cluster was inactive and is waking up. Retry for about 30 seconds; RunTx and Retry do so automatically."},
	{"", "must have the LOGIN attribute", "The role {role} lacks the LOGIN attribute. Run as admin: ALTER ROLE {role} WITH LOGIN."},
	{"28000", "does not exist", "The role {role} does not exist in the cluster. Run as admin: CREATE ROLE {role} WITH LOGIN, then AWS IAM GRANT {role} TO '<ARN of the IAM principal>'."},
	{"53300", "", "The cluster has reached its quota of open connections (10,000 unless raised). Retry later, use smaller pools (pool_max_conns times the number of processes), or request a higher quota."},
	{"53400", "", "Connections were opened faster than the cluster's quota allows (100 per second after a burst of 1,000, for all clients together). Retry later; keep connections in one pool; if many processes start together, divide the rate among them with WithConnectRate."},
}

var transactionCases = []stateCase{
	{"40001", "(OC001)", "Another transaction changed the schema: DDL, GRANT or an index job anywhere in the cluster. Nothing was committed: retry the whole transaction, as RunTx does; the session has loaded the new schema by then."},
	{"40001", "", "Another transaction changed the same rows and committed first. Nothing was committed: retry the whole transaction from BEGIN, as RunTx does; spread writes over more rows if many transactions write the same one."},
	{"25006", "", "The transaction is read-only (pgx.TxOptions{AccessMode: pgx.ReadOnly} or BEGIN READ ONLY), and the statement writes. Begin a read-write transaction."},
	{"25P02", "", "An earlier statement of the transaction failed; its error is the cause. Roll back and begin again."},
	{"0A000", "unsupported transaction statement: COMMIT", "DSQL supports plain COMMIT and ROLLBACK only. Begin the next transaction with BEGIN; two-phase commit and AND CHAIN are not available."},
	{"0A000", "unsupported transaction statement: ROLLBACK PREPARED", twoPhase},
	{"0A000", "unsupported transaction statement: PREPARE", twoPhase},
	{"0A000", "unsupported transaction statement", "DSQL has no savepoints, which pgx uses for nested transactions (tx.Begin). Use one transaction and pass it to the functions that need it; in GORM set DisableNestedTransaction."},
	{"0A000", "multiple ddl statements", "A transaction can contain one DDL statement. Send each DDL statement separately: outside a transaction, and not several in one string."},
	{"0A000", "ddl and dml", "A transaction cannot contain both DDL and DML. Send DDL by itself, outside a transaction; in a migration tool, turn off transactions for the migration."},
	{"0A000", "isolation level", "DSQL supports one isolation level, repeatable read. Leave pgx.TxOptions.IsoLevel empty or use pgx.RepeatableRead; SELECT ... FOR UPDATE makes the rows that were read conflict with writers."},
	{"0A000", `parameter "TRANSACTION"`, "DSQL does not support SET TRANSACTION. Set the access mode when the transaction begins, with pgx.TxOptions; the isolation level is always repeatable read."},
	{"0A000", "cached plan must not change result type", stalePlan},
	{"08P01", "result format", stalePlan},
	{"XX000", "server unavailable", "A component of DSQL was briefly unavailable. Before COMMIT nothing was committed and the transaction can be retried, as RunTx does; at COMMIT the outcome is unknown."},
}

const twoPhase = "DSQL does not support two-phase commit. Use one transaction on one cluster, or an outbox table."

const stalePlan = "The schema changed after the statement was prepared. Retry: pgx prepares the statement again, and RunTx and Retry retry automatically; list columns instead of * to make this rarer."

const quotas = " (https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html)"

var limitCases = []stateCase{
	{"54000", "row limit", "A transaction can change up to 3,000 rows, cascaded rows included. Split the work into batches, each in its own transaction; retrying unchanged cannot succeed."},
	{"54000", "size limit", "A transaction can write up to 10 MiB, index entries included. Split the work into batches, each in its own transaction; retrying unchanged cannot succeed."},
	{"54000", "age limit", "A transaction can last up to 5 minutes. Move waiting and calls to other services out of it, or split it; retrying unchanged cannot succeed."},
	{"54000", "temp space", queryMemory},
	{"53200", "", queryMemory},
	{"53100", "", "The cluster has reached its storage quota" + quotas + ". Delete data or request a higher quota."},
	{"", "limit greater than", "The value or the declared length exceeds DSQL's limit for the type: 1 MiB per column value, char(4096), varchar(65535). Declare a shorter length, or store large values in Amazon S3 and their keys in the table."},
	{"54000", "column size", "A column value can be up to 1 MiB and a row up to 2 MiB. Store large values in Amazon S3 and their keys in the table, or split them over rows."},
	{"54000", "row size", "A row can be up to 2 MiB and a column value up to 1 MiB. Store large values in Amazon S3 and their keys in the table, or split them over rows."},
	{"54000", "key size", "AWS documents 1 KiB as the limit of a primary key or index key; clusters accept up to 1,981 bytes. Index a shorter column, or a hash of a long one."},
	{"54011", "", "A key can have up to 8 columns, and a table up to 255. Use a shorter key, or split the table."},
	{"08P01", "invalid message length", "A protocol message can be up to 10 MiB. Send fewer rows or smaller values in one statement."},
	{"22023", "statistics target", "DSQL allows a statistics target of up to 100. Use 100 or less."},
	{"54000", "", "The statement exceeds a limit of DSQL, and retrying unchanged cannot succeed" + quotas + "."},
	{"54001", "", "The expression is nested too deeply. Pass a long list as one array parameter, column = ANY($1), instead of a chain of OR."},
}

const queryMemory = "The query needs more memory than DSQL allows for one query (128 MiB). Read fewer rows or columns, sort and group by an indexed column, or page through the result by key."

var permissionCases = []stateCase{
	{"42501", "schema public", "Custom roles cannot create objects in the schema public. Run as admin: CREATE SCHEMA app, then GRANT USAGE, CREATE ON SCHEMA app TO <role>; open the pool with WithRuntimeParam(\"search_path\", \"app\")."},
	{"42501", "for schema", "The role lacks a privilege on the schema {name}. Run as admin: GRANT USAGE ON SCHEMA {name} TO <role>, and GRANT CREATE ON SCHEMA {name} TO <role> if the role creates tables there."},
	{"42501", "for sequence", "The role lacks a privilege on the sequence {name}. Run as its owner or admin: GRANT USAGE ON SEQUENCE {name} TO <role>."},
	{"42501", "for function", "The role lacks a privilege on the function {name}. Run as its owner or admin: GRANT EXECUTE ON FUNCTION {name} TO <role>."},
	{"42501", "permission denied for", "The role lacks a privilege on {name}. Run as its owner or admin, with the privileges that the role needs: GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO <role>; ON ALL TABLES IN SCHEMA <schema> covers the tables that exist, not later ones."},
	{"42501", "must be owner of", "Only the owner of {name} can do this. Connect as the role that created it, or as admin: ALTER TABLE {name} OWNER TO <role>."},
	{"", "grant IAM trust", "Only admin can run AWS IAM GRANT and AWS IAM REVOKE. Connect as admin."},
	{"42501", "", "The role lacks a privilege for this statement. Connect as admin, which creates roles and schemas and grants privileges, or have admin grant the privilege to the role."},
	{"0A000", "system entity", "DSQL does not support GRANT and other DDL on the schema public and on system objects. Create a schema, GRANT USAGE, CREATE ON SCHEMA <schema> TO <role>, and set search_path with WithRuntimeParam; for existing tables in public: GRANT SELECT ON <table> TO <role>."},
	{"0A000", "unsupported object type in GRANT", "DSQL does not support GRANT on this kind of object, such as a database. Leave it out: every role with LOGIN and an AWS IAM GRANT can connect to the database postgres."},
	{"42704", `role "pg_`, "DSQL does not have PostgreSQL's predefined roles. Grant the privileges themselves, for instance GRANT SELECT ON ALL TABLES IN SCHEMA <schema> TO <role>."},
	{"2BP01", "role", "The role still has an IAM mapping, privileges or objects. Run AWS IAM REVOKE <role> FROM '<ARN>' for each row in sys.iam_pg_role_mappings, drop or reassign its objects, then DROP ROLE."},
	{"", "look like an IAM ARN", "AWS IAM GRANT takes the ARN of an IAM role or user. Use arn:aws:iam::<account>:role/<name>, not the ARN of a session (arn:aws:sts::...:assumed-role/...)."},
	{"", "Cannot establish trust with role", "The role cannot be mapped to an IAM principal. Use a role that was created with CREATE ROLE <role> WITH LOGIN; admin is authorized by dsql:DbConnectAdmin alone."},
}

const asyncIndex = "CALL sys.wait_for_job('<job_id>') waits until the job ends; its status in sys.jobs says whether it succeeded."

var schemaCases = []stateCase{
	{"3F000", "no schema has been selected", "No schema in search_path exists and is accessible to the role. Open the pool with WithRuntimeParam(\"search_path\", \"<schema>\"); run as admin: GRANT USAGE, CREATE ON SCHEMA <schema> TO <role>."},
	{"3F000", "", "The schema does not exist. Check search_path (WithRuntimeParam) and the name in the statement; create it as admin: CREATE SCHEMA <schema>, then GRANT USAGE, CREATE ON SCHEMA <schema> TO <role>."},
	{"42P01", "", "The table does not exist in any schema of search_path that the role can use. Set search_path with WithRuntimeParam, or write <schema>.<table>; GRANT USAGE ON SCHEMA <schema> TO <role> makes a schema visible."},
	{"42704", "serial\" does not exist", "DSQL does not have the types serial, bigserial and smallserial. Use uuid PRIMARY KEY DEFAULT gen_random_uuid(), which spreads writes, or bigint GENERATED BY DEFAULT AS IDENTITY (CACHE 65536)."},
	{"42704", "text search configuration", "DSQL has no text search configuration other than simple. Use to_tsvector('simple', ...), LIKE, or a search service such as Amazon OpenSearch Service."},
	{"42704", "unrecognized configuration parameter", "The session parameter does not exist on DSQL. Leave it out; lc_collate, for example, is always C."},
	{"42704", "type \"", "DSQL does not have the type {name}. Extensions, enums and composite types are not available: use text with a CHECK constraint or a domain, or jsonb."},
	{"0A000", "type must be bigint", "Identity columns and sequences must be bigint. Use bigint GENERATED BY DEFAULT AS IDENTITY (CACHE 65536), or CREATE SEQUENCE without AS."},
	{"0A000", "without an explicit cache size", "Sequences and identity columns need an explicit cache size of 1 or at least 65536. Use bigint GENERATED BY DEFAULT AS IDENTITY (CACHE 65536) or CREATE SEQUENCE ... CACHE 65536; CACHE 1 has smaller gaps and suits infrequent inserts. A uuid with DEFAULT gen_random_uuid() needs no sequence."},
	{"0A000", "[] not supported", "DSQL has no array columns. Use jsonb or a child table; array parameters such as column = ANY($1) and unnest($1::text[]) work in queries."},
	{"0A000", "not supported in a key", keyType},
	{"0A000", "datatype ", "DSQL does not support columns of the type {type}. Use text or jsonb in its place, numeric for money, boolean or bigint for bit, and two columns for a range."},
	{"0A000", "ADD COLUMN with constraint", "ADD COLUMN takes a name and a type only. Add the column, then ALTER TABLE ... ALTER COLUMN ... SET DEFAULT, update the existing rows in batches, and ADD CONSTRAINT ... CHECK (<column> IS NOT NULL) NOT VALID in place of NOT NULL: one statement each."},
	{"0A000", "SET DATA TYPE", "DSQL cannot change a column's type. Add a column of the new type, copy the values in batches, drop the old column and rename the new one."},
	{"0A000", "SET NOT NULL", "DSQL cannot make an existing column NOT NULL. Use ALTER TABLE ... ADD CONSTRAINT ... CHECK (<column> IS NOT NULL) NOT VALID, then ALTER TABLE ASYNC ... VALIDATE CONSTRAINT."},
	{"0A000", "VALIDATE CONSTRAINT", "Constraints are validated by a job. Use ALTER TABLE ASYNC <table> VALIDATE CONSTRAINT <name>, which returns a job_id. " + asyncIndex},
	{"0A000", "ADD CONSTRAINT", "ADD CONSTRAINT needs NOT VALID for CHECK and FOREIGN KEY, and USING INDEX for UNIQUE. Run ALTER TABLE ASYNC <table> VALIDATE CONSTRAINT <name> afterward, or CREATE UNIQUE INDEX ASYNC first; a primary key must be part of CREATE TABLE."},
	{"0A000", "DROP CONSTRAINT", "DSQL cannot drop a primary key. Create a new table with the new key, copy the rows in batches, and rename it."},
	{"", "cannot drop primary key column", "DSQL cannot drop a column of the primary key. Create a new table with the new key, copy the rows in batches, and rename it."},
	{"0A000", "DEFERRABLE constraint", "Only foreign keys can be DEFERRABLE. Remove DEFERRABLE from the constraint."},
	{"55000", "is not valid", "The index is still being built, or its build failed. CALL sys.wait_for_job('<job_id>') waits for the build; if sys.jobs says failed, drop the index, remove the duplicate rows, and create it again."},
	{"0A000", "DROP INDEX CONCURRENTLY", "DSQL drops indexes without blocking writers. Use DROP INDEX without CONCURRENTLY."},
	{"0A000", "CONCURRENTLY not supported", "CREATE INDEX ASYNC builds indexes without blocking writers and takes the place of CONCURRENTLY. It returns a job_id. " + asyncIndex},
	{"0A000", "CREATE INDEX ASYNC", "Indexes are built by CREATE INDEX ASYNC, which returns a job_id. " + asyncIndex},
	{"0A000", "USING not supported", "DSQL has one kind of index. Leave out USING: CREATE INDEX ASYNC ON <table> (<column>). GIN, GiST, BRIN and hash indexes are not available."},
	{"0A000", "specifying sort order", "Index keys take no ASC, DESC, NULLS FIRST or NULLS LAST. Leave them out."},
	{"0A000", "opclass not supported", "Index keys take no operator class. Leave it out."},
	{"42601", `at or near "."`, "If the statement is CREATE INDEX: DSQL takes no schema before the name of an index. Write CREATE INDEX ASYNC <name> ON <schema>.<table>; the index is created in the table's schema."},
	{"42809", "is a procedure", "sys.wait_for_job is a procedure. Use CALL sys.wait_for_job('<job_id>'), not SELECT."},
	{"22P02", "Unable to convert text to UUID", "The argument of sys.wait_for_job is not a job ID. Pass the job_id that CREATE INDEX ASYNC returned; with IF NOT EXISTS and an existing index there may be none."},
	{"0A000", "subquery in CALL", "CALL takes no subquery. Read the job_id first, then CALL sys.wait_for_job with it as a parameter."},
	{"0A000", "clause not supported for CREATE TABLE", "DSQL distributes and stores tables itself: it has no partitions, inheritance, storage parameters and tablespaces. Leave out the clause."},
	{"0A000", "PARTITION", noPartitions},
	{"0A000", "INHERIT", noPartitions},
	{"0A000", "TEMPORARY or TEMP", "DSQL has no temporary tables, views and sequences. Use a WITH query, an array parameter with unnest, or an ordinary table with a session ID in its key."},
	{"0A000", "UNLOGGED", "DSQL has no unlogged tables and sequences. Leave out UNLOGGED."},
	{"0A000", "RefreshMatView", "DSQL has no materialized views. Use CREATE VIEW, or a table that the application updates."},
	{"0A000", "CreateTableAs", "DSQL has no CREATE TABLE AS, SELECT INTO and materialized views. Create the table first and fill it with INSERT ... SELECT in batches of up to 3,000 rows; use CREATE VIEW for a view."},
	{"0A000", "CREATE TYPE not supported", enumType},
	{"0A000", "ALTER TYPE not supported", enumType},
	{"0A000", "unsupported object in DROP statement", "DSQL cannot drop this kind of object, because it cannot create it: types, triggers and extensions are not available. Remove the statement."},
	{"0A000", "unsupported object in RENAME statement", "DSQL cannot rename this kind of object. It renames tables, columns and constraints; types are not available."},
	{"0A000", "CompositeType", "DSQL has no composite types. Use separate columns, a table, or jsonb."},
	{"0A000", "CreateRange", "DSQL has no range types of its own. Use two columns and a CHECK constraint."},
	{"0A000", "DROP DOMAIN with CASCADE", "DROP DOMAIN takes no CASCADE. Drop the columns of the domain first, then the domain."},
	{"0A000", "CREATE TRIGGER", "DSQL has no triggers. Write the derived data in the same transaction in the application, or use a column DEFAULT."},
	{"0A000", "CREATE FUNCTION with language", "Functions must be LANGUAGE sql. Move procedural logic into the application."},
	{"0A000", "PROCEDURE is not supported", "DSQL has no procedures of its own, only LANGUAGE sql functions. Move procedural logic into the application."},
	{"0A000", "unsupported statement: Do", "DSQL has no DO blocks. Move procedural logic into the application or the migration tool; CREATE ... IF NOT EXISTS replaces most DO blocks in migrations."},
	{"0A000", "CreateExtension", "DSQL has no extensions. Leave out CREATE EXTENSION: gen_random_uuid() is built in, and json and jsonb are supported; PostGIS, pgvector, hstore and others are not available."},
	{"0A000", "Dropdb", "A cluster has one database, postgres, which cannot be dropped. Drop its schemas, or delete the cluster with aws dsql delete-cluster."},
	{"0A000", "Createdb", "A cluster has one database, postgres. Use a schema for each application, or another cluster."},
	{"0A000", "TableSpace", ownStorage},
	{"0A000", "TABLESPACE", ownStorage},
	{"0A000", "COMPRESSION", ownStorage},
	{"0A000", "SET STATISTICS", ownStorage},
	{"0A000", "ALTER TABLE SET statement", ownStorage},
	{"0A000", "WITH not supported", ownStorage},
	{"0A000", "Reindex", ownStorage},
	{"0A000", "CLUSTER", ownStorage},
	{"0A000", "unsupported statement: Cluster", ownStorage},
	{"0A000", "CheckPoint", ownStorage},
	{"0A000", "CreateForeign", foreign},
	{"0A000", "ImportForeign", foreign},
	{"0A000", "CreateFdw", foreign},
	{"0A000", "UserMapping", foreign},
	{"0A000", "EXCLUDE constraint", "DSQL has no exclusion constraints. Use UNIQUE, or check for overlaps in the transaction with SELECT ... FOR UPDATE on a parent row."},
	{"0A000", "unsupported statement: Rule", "DSQL has no rules. Use a view for reads, and write to the tables in the application."},
	{"0A000", "unsupported statement: Define", ownObjects},
	{"0A000", "AlterTSConfiguration", ownObjects},
	{"0A000", "Publication", replication},
	{"0A000", "Subscription", replication},
	{"0A000", "ROW SECURITY", rowSecurity},
	{"0A000", "CreatePolicy", rowSecurity},
}

const (
	noPartitions = "DSQL has no partitions and no table inheritance, and distributes tables by primary key itself. Leave the statement out."
	ownStorage   = "DSQL manages storage, indexes and statistics itself. Leave this out."
	foreign      = "DSQL has no foreign tables. Read the other data source in the application."
	ownObjects   = "DSQL has no user-defined text search objects, aggregates, operators and collations. Leave the statement out, and compute in the application."
	replication  = "DSQL has no logical replication of PostgreSQL. For other regions use a multi-Region cluster; for events write an outbox table."

	keyType     = "The type {type} cannot be part of a key or an index. Use text, uuid, a number or a timestamp for the key; encode bytea as text, and copy an element of jsonb to its own column."
	enumType    = "DSQL has no enum types. Use text with a CHECK constraint, or CREATE DOMAIN <name> AS text CHECK (VALUE IN (...)); in place of ALTER TYPE, change the constraint."
	rowSecurity = "DSQL has no row-level security. Filter by tenant in each statement, or use views, schemas and roles for each tenant."
)

var statementCases = []stateCase{
	{"0A000", "Truncate", "DSQL has no TRUNCATE. Use DELETE in batches of up to 3,000 rows, or DROP TABLE and CREATE TABLE; in tests, dsqltest gives each test its own cluster."},
	{"0A000", "advisory_", "DSQL has no advisory locks. Configure the migration tool to lock with a row of a table, or run one migrator at a time."},
	{"0A000", "unsupported statement: Lock", "DSQL has no LOCK TABLE; writers never block. SELECT ... FOR UPDATE makes the rows that were read conflict with writers at COMMIT."},
	{"0A000", "locking clauses", "DSQL supports FOR UPDATE and FOR KEY SHARE. Use FOR UPDATE in place of FOR SHARE and FOR NO KEY UPDATE; it conflicts at COMMIT and never blocks."},
	{"0A000", "unsupported statement: Listen", listenNotify},
	{"0A000", "unsupported statement: Notify", listenNotify},
	{"0A000", "unsupported statement: Unlisten", listenNotify},
	{"0A000", "VACUUM", "DSQL needs no VACUUM and collects statistics automatically. Leave it out; ANALYZE <table> works outside a transaction."},
	{"0A000", "ANALYZE", "DSQL runs ANALYZE of one table outside a transaction. Use ANALYZE <table>, or leave it out: statistics are collected automatically."},
	{"0A000", "MERGE", "DSQL has no MERGE. Use INSERT ... ON CONFLICT DO UPDATE, and DELETE or UPDATE ... FROM for the other branches, in one transaction."},
	{"0A000", "DeclareCursor", noCursor},
	{"0A000", "unsupported statement: Fetch", noCursor},
	{"0A000", "ClosePortal", noCursor},
	{"0A000", "unsupported statement: Call", "DSQL has no procedures of its own. CALL works with sys.wait_for_job; move other logic into the application."},
	{"0A000", "option in CREATE ROLE", roleOption},
	{"0A000", "AlterRoleSet", "Session parameters are not stored with a role. Set them when the pool is opened, with WithRuntimeParam."},
	{"0A000", "AlterRole", roleOption},
	{"0A000", "mode: DEFERRABLE", "DSQL has no deferrable transactions. Leave pgx.TxOptions.DeferrableMode empty; reads never block and never conflict with data."},
	{"0A000", "unsupported statement: Prepare", sqlPrepare},
	{"0A000", "unsupported statement: Execute", sqlPrepare},
	{"0A000", "unsupported statement: Deallocate", sqlPrepare},
	{"0A000", "Discard", "DSQL has no DISCARD. Leave it out; pgxpool needs no reset query, and MaxConnLifetime replaces sessions."},
	{"0A000", "COPY", "COPY works from the client only: COPY <table> FROM STDIN, as psql's \\copy sends it. Files and programs on the server are not available; load up to 3,000 rows per transaction."},
	{"0A000", "AlterSystem", "DSQL has no server parameters to set. Leave out ALTER SYSTEM; session parameters are set with WithRuntimeParam."},
	{"0A000", "Role admin not supported", "The role admin cannot be granted. GRANT the privileges themselves to the role, or connect as admin with dsql:DbConnectAdmin."},
	{"0A000", "TABLESAMPLE", "DSQL has no TABLESAMPLE. Use WHERE random() < 0.01, or read a range of random keys."},
	{"0A000", "COLLATE clause", "DSQL sorts by the collation C. Leave out COLLATE; sort by lower(<column>), or in the application."},
	{"0A000", "function pg_table_size", "DSQL has no table size functions. Use the storage metric of the cluster in Amazon CloudWatch, or count rows."},
	{"0A000", "function ", "DSQL does not have this function. Leave it out or compute the value in the application; see " + compatibility},
	{"0A000", "setting configuration parameter", ""}, // see explainParameter
}

const (
	listenNotify = "DSQL has no LISTEN and NOTIFY. Poll a table, or publish events through Amazon SNS, SQS or EventBridge after COMMIT."
	noCursor     = "DSQL has no SQL cursors. pgx streams rows without a cursor; page through large results by key: WHERE id > $1 ORDER BY id LIMIT 1000."
	roleOption   = "A role has the attribute LOGIN and no other, and no password. Use CREATE ROLE <role> WITH LOGIN, and AWS IAM GRANT <role> TO '<ARN>' for access."
	sqlPrepare   = "DSQL has no SQL-level PREPARE, EXECUTE and DEALLOCATE. pgx prepares statements through the protocol, which DSQL supports: use conn.Prepare or parameters ($1)."

	compatibility = "https://docs.aws.amazon.com/aurora-dsql/latest/userguide/working-with-postgresql-compatibility.html."
)

var lastCases = []stateCase{
	{"0A000", "", "DSQL does not support this part of PostgreSQL: " + compatibility},
}

func explainState(e sqlstate.Error, at target) string {
	if sqlstate.IsAccessDenied(e) {
		return explainDenied(e, at)
	}
	words := sqlstate.Message(e)
	for _, group := range stateCases {
		for _, c := range group {
			if (c.code == "" || c.code == e.SQLState()) && strings.Contains(words, c.words) {
				if c.text == "" {
					return explainParameter(words)
				}
				return at.fill(fillNames(c.text, words))
			}
		}
	}
	return ""
}

var (
	quoted   = regexp.MustCompile(`"([^"]*)"`)
	lastWord = regexp.MustCompile(`\S+$`)
	datatype = regexp.MustCompile(`datatype (.+?)(?: is)? not supported`)
)

// fillNames fills in what the server named: {name}, the last word or what is in quotation marks,
// and {type}.
func fillNames(text, words string) string {
	name := strings.Trim(lastWord.FindString(words), `"`)
	if m := quoted.FindStringSubmatch(words); m != nil {
		name = m[1]
	}
	kind := "that name"
	if m := datatype.FindStringSubmatch(words); m != nil {
		kind = m[1]
	}
	return strings.NewReplacer("{name}", name, "{type}", kind).Replace(text)
}
