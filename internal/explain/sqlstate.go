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

// target is the endpoint and the role of a connection attempt. What is unknown is a placeholder,
// such as <role>.
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
	return targetAt(connect.Config, connect.Config.Host, err)
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

// fill replaces the placeholders in braces.
func (t target) fill(text string) string {
	return strings.NewReplacer("{role}", t.role, "{action}", t.action, "{host}", t.host, "{region}", t.region,
		"{arn}", "arn:aws:dsql:"+t.region+":<account>:cluster/"+t.clusterID).Replace(text)
}

func explainParameter(words string) string {
	instead := "leave it out"
	name := "<name>"
	if m := quoted.FindStringSubmatch(words); m != nil {
		name = m[1]
		if known, ok := params.Advice(name); ok {
			instead = known
		}
	}
	return "DSQL does not support setting the parameter " + name + ", at startup or with SET, and in a transaction the attempt aborts it. What to do: " + instead + "."
}

// denials explains "access denied" by a part of the server's hint.
var denials = []struct{ hint, text string }{
	{"Wrong user to action mapping", "The token was signed for a different IAM action than {action}, which the role {role} needs. This package signs for the right action: check whether the token was made elsewhere."},
	{"Signature expired", "The token had expired when it reached the cluster. Check this machine's clock (NTP) first, then whether the AWS credentials were about to expire, then whether the token lifetime is shorter than a slow connect."},
	{"is not authorized", "IAM does not allow {action} for the principal that the credentials belong to. Attach a policy that allows {action} on {arn}; a new policy takes effect after a minute or two. A resource-based policy of the cluster, or its block public access setting, can also deny access."},
}

// resource matches the cluster's ARN in a hint, with the account.
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
		return at.fill("IAM allows the connection, but the role {role} does not exist or is not granted to the IAM principal that the credentials belong to. Run as admin: CREATE ROLE {role} WITH LOGIN if it does not exist, then AWS IAM GRANT {role} TO '<ARN of the IAM principal>'. If the principal was deleted and created again, run AWS IAM REVOKE, then AWS IAM GRANT.")
	}
	return at.fill("DSQL denied access to the role {role} without a reason. Check in this order: the credentials are the intended ones and have not expired (aws sts get-caller-identity); this machine's clock is right; IAM allows {action} on {arn}; the cluster is in {region}, the region that the token was signed for; {host} is its endpoint.")
}

// serverHint returns the server's hint, or "" if Hint has set it.
func serverHint(e sqlstate.Error) string {
	var pg *pgconn.PgError
	if !errors.As(e, &pg) || strings.HasPrefix(pg.Hint, ownHint) {
		return ""
	}
	return pg.Hint
}

// Hint returns the first sentence of the explanation of a refused connection to host as role, for
// callers that see the error without Explain, or "".
func Hint(e *pgconn.PgError, role, host, region string) string {
	sentence, _, _ := strings.Cut(explainState(e, newTarget(role, host, region)), ". ")
	if sentence == "" {
		return ""
	}
	return ownHint + strings.TrimSuffix(sentence, ".") + "."
}

// ownHint is the prefix of hints that this library sets.
const ownHint = "dsql: "
