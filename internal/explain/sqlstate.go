package explain

import (
	"crypto/tls"
	"errors"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/params"
	"github.com/go-dsql/dsql/internal/sqlstate"
)

// target is where a connection was tried and as which role. Unknown parts read <role> and the like.
type target struct {
	role, action, host, region, clusterID string
	isRouted                              bool // host is a dial address
}

// Sessions is a cache of TLS sessions that knows the region that a connection's token was signed for:
// a ConnectError keeps the connection's TLS configuration, and must not keep its token.
type Sessions struct {
	Cache  tls.ClientSessionCache // nil: nothing is resumed
	Region string
}

// Get returns a session to resume.
func (s Sessions) Get(key string) (*tls.ClientSessionState, bool) {
	if s.Cache == nil {
		return nil, false
	}
	return s.Cache.Get(key)
}

// Put stores a session.
func (s Sessions) Put(key string, session *tls.ClientSessionState) {
	if s.Cache != nil {
		s.Cache.Put(key, session)
	}
}

func targetOf(err error) target {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) || connect.Config == nil {
		return newTarget("<role>", "<endpoint>", "")
	}
	region := ""
	if connect.Config.TLSConfig != nil {
		sessions, _ := connect.Config.TLSConfig.ClientSessionCache.(Sessions)
		region = sessions.Region
	}
	t := newTarget(connect.Config.User, connect.Config.Host, region)
	var dial *DialError
	if errors.As(err, &dial) && !strings.HasPrefix(dial.Address, t.host) {
		t.host, t.isRouted = dial.Address, true
	}
	return t
}

func newTarget(role, host, region string) target {
	t := target{role: role, action: "dsql:DbConnect", host: host, region: region, clusterID: "<cluster ID>"}
	if role == "admin" {
		t.action = "dsql:DbConnectAdmin"
	}
	if region == "" {
		t.region = "<region>"
	}
	if id, _, _ := strings.Cut(host, "."); endpoint.IsClusterID(id) {
		t.clusterID = id
	}
	return t
}

// fill fills in what stands in braces.
func (t target) fill(text string) string {
	return strings.NewReplacer("{role}", t.role, "{action}", t.action, "{host}", t.host, "{region}", t.region,
		"{arn}", "arn:aws:dsql:"+t.region+":<account>:cluster/"+t.clusterID).Replace(text)
}

// stateCases are what DSQL says, by SQLSTATE (empty: any) and a part of the
// message; the first that fits counts.
var stateCases = []struct{ code, words, text string }{
	{"", "sni was not received", "DSQL was not told which cluster is meant: TLS came to it without a name (SNI). Something in between ends TLS and begins it anew, such as a proxy or a load balancer: have it pass TCP on untouched."},
	{"", "invalid sni", "DSQL knows no cluster by the name that TLS was begun with. The cluster is deleted, its ID or region is wrong ({host}), or TCP leads to the DSQL of another region or to another VPC endpoint service: compare with aws dsql get-cluster."},
	{"", "waking up cluster", "The cluster was inactive and is waking up. Try again for about 30 seconds: RunTx and Retry do by themselves."},
	{"", "must have the LOGIN attribute", "The role {role} may not log in. As admin: ALTER ROLE {role} WITH LOGIN."},
	{"28000", "does not exist", "The role {role} does not exist in the cluster. As admin: CREATE ROLE {role} WITH LOGIN, then AWS IAM GRANT {role} TO '<ARN of the IAM principal>'."},
	{"53300", "", "The cluster has as many connections open as its quota allows (10,000 unless raised). Wait and try again, make the pools smaller (pool_max_conns times the number of processes), or have the quota raised."},
	{"53400", "", "Connections were opened faster than the cluster's quota allows (100 a second after a burst of 1,000, all clients together). Wait and try again; where many processes start together, give each a part of the rate with WithConnectRate, and keep connections in one pool."},
	{"40001", "(OC001)", "The schema was changed by another transaction, by DDL, GRANT or an index job anywhere in the cluster. Nothing was committed: run the whole transaction again, as RunTx does; the session knows the new schema then."},
	{"40001", "", "Another transaction changed the same rows and committed first. Nothing was committed: run the whole transaction again from BEGIN, as RunTx does; spread rows that many transactions write."},
	{"25006", "", "The transaction is read-only, by pgx.TxOptions{AccessMode: pgx.ReadOnly} or BEGIN READ ONLY, and the statement writes. Begin it without that."},
	{"54000", "row limit", "A transaction may change 3,000 rows, cascaded ones included. Split the work into batches, each in a transaction of its own; trying again unchanged cannot help."},
	{"54000", "size limit", "A transaction may write 10 MiB, index entries included. Split the work into batches, each in a transaction of its own; trying again unchanged cannot help."},
	{"54000", "age limit", "A transaction may last 5 minutes. Keep waiting and calls to others out of it, or split it; trying again unchanged cannot help."},
	{"54000", "", "A limit of DSQL was met, and trying again unchanged cannot help: https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html."},
	{"0A000", "unsupported transaction statement", "DSQL has no savepoints, which pgx uses for a transaction within a transaction (tx.Begin). Use one transaction, and pass it on to functions that need one."},
	{"0A000", "multiple ddl statements", "A transaction may have one DDL statement. Send each by itself, outside a transaction and not several in one string."},
	{"0A000", "ddl and dml", "DDL and statements on data may not be in one transaction. Send the DDL by itself, outside a transaction (migration tools: turn their transactions off)."},
	{"0A000", "CREATE INDEX ASYNC", "Indexes are built by CREATE INDEX ASYNC, which returns a job_id. CALL sys.wait_for_job('<job_id>') waits for the end; the job's status in sys.jobs says whether it worked."},
	{"0A000", "advisory_", "DSQL has no advisory locks. Have a migration tool lock with a row of a table, or run one migrator at a time."},
	{"0A000", "isolation level", "DSQL's one isolation level is repeatable read. Leave IsoLevel out of pgx.TxOptions, or give pgx.RepeatableRead; SELECT ... FOR UPDATE makes what was read conflict with writers."},
	{"0A000", `parameter "TRANSACTION"`, "SET TRANSACTION does not work at DSQL. Give the mode when beginning, as pgx.TxOptions does; the isolation level is always repeatable read."},
	{"0A000", "cached plan must not change result type", "The schema was changed after the statement was prepared. Try again: pgx prepares it anew, and RunTx and Retry do so by themselves; naming columns in place of * makes it rarer."},
	{"0A000", "setting configuration parameter", ""}, // see explainParameter
	{"0A000", "", "DSQL does not have this part of PostgreSQL: https://docs.aws.amazon.com/aurora-dsql/latest/userguide/working-with-postgresql-compatibility.html."},
	{"XX000", "server unavailable", "A part of DSQL was not available for a moment. Before COMMIT nothing was committed and the transaction may be run again, as RunTx does; at COMMIT the outcome is unknown."},
	{"25P02", "", "An earlier statement of the transaction failed, and its error is the cause. Roll back and begin again."},
}

func explainState(e sqlstate.Error, at target) string {
	if sqlstate.IsAccessDenied(e) {
		return explainDenied(e, at)
	}
	words := sqlstate.Message(e)
	for _, c := range stateCases {
		if (c.code == "" || c.code == e.SQLState()) && strings.Contains(words, c.words) {
			if c.text == "" {
				return explainParameter(words)
			}
			return at.fill(c.text)
		}
	}
	return ""
}

var quoted = regexp.MustCompile(`"([^"]*)"`)

func explainParameter(words string) string {
	instead := "leave it out"
	name := "<name>"
	if m := quoted.FindStringSubmatch(words); m != nil {
		name = m[1]
		if known, ok := params.Advice(name); ok {
			instead = known
		}
	}
	return "DSQL does not let the parameter " + name + " be set, at startup or by SET, and inside a transaction the attempt aborts it. What to do: " + instead + "."
}

// denials are the causes of "access denied", by a part of the server's hint.
var denials = []struct{ hint, text string }{
	{"Wrong user to action mapping", "The token was signed for another IAM action than the role {role} needs, which is {action}. Tokens of this package have the right one: was this one made elsewhere?"},
	{"Signature expired", "The token had ended when it came to the cluster. Check this machine's clock (NTP) first, then that the AWS credentials were not about to end, then whether the token lifetime is shorter than a slow connect."},
	{"is not authorized", "IAM does not allow {action} to the principal that the credentials are of. Add a policy that allows {action} on {arn} to it; a new policy takes a minute or two to count. A resource policy of the cluster, or its block of public access, can deny too."},
}

// resource is the cluster's ARN where the hint tells it, with the account.
var resource = regexp.MustCompile(`arn:[\w-]+:dsql:[\w-]+:\d+:cluster/[a-z0-9]+`)

func explainDenied(e sqlstate.Error, at target) string {
	hint := serverHint(e)
	for _, d := range denials {
		if strings.Contains(hint, d.hint) {
			text := d.text
			if arn := resource.FindString(hint); arn != "" {
				text = strings.ReplaceAll(text, "{arn}", arn)
			}
			return at.fill(text)
		}
	}
	if e.SQLState() == "28000" {
		return at.fill("IAM allowed it, but the role {role} is not granted to the IAM principal that the credentials are of, or does not exist. As admin: CREATE ROLE {role} WITH LOGIN if it is not there, then AWS IAM GRANT {role} TO '<ARN of the IAM principal>'. If the principal was deleted and made again: AWS IAM REVOKE, then GRANT.")
	}
	return at.fill("DSQL refused the role {role} and did not say why. Check in this order: the credentials are those meant, and still good (aws sts get-caller-identity); this machine's clock; IAM allows {action} on {arn}; the cluster is in {region}, for which the token was signed; {host} is its endpoint.")
}

// serverHint is the hint, unless it is one of Hint's.
func serverHint(e sqlstate.Error) string {
	var pg *pgconn.PgError
	if !errors.As(e, &pg) || strings.HasPrefix(pg.Hint, ownHint) {
		return ""
	}
	return pg.Hint
}

// Hint returns the first sentence about a refusal of a connection to host as role, for those who
// see the error without Explain, or "".
func Hint(e *pgconn.PgError, role, host, region string) string {
	sentence, _, _ := strings.Cut(explainState(e, newTarget(role, host, region)), ". ")
	if sentence == "" {
		return ""
	}
	return ownHint + strings.TrimSuffix(sentence, ".") + "."
}

// ownHint begins the hints that are this library's, not the server's.
const ownHint = "dsql: "
