package dsqltest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/postgres"
)

// dropTimeout bounds the removal of a closed cluster's database.
const dropTimeout = 30 * time.Second

// Cluster is a local cluster. It is safe for concurrent use.
type Cluster struct {
	id          string
	region      string
	database    string                 // its name in the engine
	credentials func() aws.Credentials // a function, so that printing shows no key
	authority   *authority
	engine      *postgres.Server
	listener    *listener

	ctx      context.Context // ends when the cluster closes, and cuts its sessions
	cancel   context.CancelFunc
	sessions sync.WaitGroup
	close    func() error
	faults   faults
	quota    quota
	catalog  atomic.Int64 // the version of the schema

	sessionAge     time.Duration // how long a session may last
	transactionAge time.Duration // how long a transaction may last

	mu      sync.Mutex
	closed  bool // no session begins any more
	refusal *Refusal
	stats   Stats
	live    map[*conversation]struct{}
}

// Start runs a cluster until the test and its subtests are over. It fails the
// test if there is no PostgreSQL on the machine.
func Start(tb testing.TB, opts ...Option) *Cluster {
	tb.Helper()
	c, err := Run(tb.Context(), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// Run runs a cluster until Close. ctx is for starting only. It fails if there
// is no PostgreSQL on the machine; the error says what to install.
func Run(ctx context.Context, opts ...Option) (*Cluster, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	c, err := newCluster(cfg)
	if err != nil {
		return nil, err
	}
	if c.engine, err = postgres.Start(ctx); err != nil {
		return nil, fmt.Errorf("dsqltest: starting PostgreSQL: %w", err)
	}
	if err := c.create(ctx, cfg.roles); err != nil {
		return nil, errors.Join(err, c.drop())
	}
	return c, nil
}

func newCluster(cfg config) (*Cluster, error) {
	authority, err := processAuthority()
	if err != nil {
		return nil, err
	}
	creds := aws.Credentials{
		AccessKeyID:     "AKIA" + rand.Text()[:16],
		SecretAccessKey: (rand.Text() + rand.Text())[:40],
		Source:          "dsqltest",
	}
	id := strings.ToLower(rand.Text()) // 26 characters, as a cluster ID has
	c := &Cluster{
		id:          id,
		region:      cfg.region,
		database:    "dsql_" + id,
		credentials: func() aws.Credentials { return creds },
		authority:   authority,
		quota:       cfg.quota,
		live:        make(map[*conversation]struct{}),

		sessionAge:     sessionAge,
		transactionAge: transactionAge,
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.close = sync.OnceValue(c.shut)
	return c, nil
}

// create makes what the cluster needs in the engine, and opens its door.
func (c *Cluster) create(ctx context.Context, roles []string) error {
	if err := c.engine.CreateDatabase(ctx, c.database); err != nil {
		return fmt.Errorf("dsqltest: creating the cluster's database: %w", err)
	}
	for _, role := range roles {
		if err := c.createRole(ctx, role); err != nil {
			return fmt.Errorf("dsqltest: creating the role %q: %w", role, err)
		}
	}
	return join(c)
}

func (c *Cluster) createRole(ctx context.Context, role string) error {
	if err := c.engine.Exec(ctx, c.database, "CALL sys.create_role($1, true)", role); err != nil {
		return err
	}
	return c.engine.Exec(ctx, c.database, "CALL sys.iam_grant($1, $2)", role, principal)
}

// Endpoint is the cluster's host name, <26 characters>.dsql.<region>.on.aws. No
// DNS knows it: [Cluster.Options] say where to dial.
func (c *Cluster) Endpoint() string {
	return c.id + ".dsql." + c.region + ".on.aws"
}

// Region is the AWS Region that the cluster is in.
func (c *Cluster) Region() string { return c.region }

// principal is whom the cluster's credentials belong to.
const principal = "arn:aws:iam::123456789012:role/dsqltest"

// Principal is the ARN of the IAM role that the credentials of [Cluster.Options]
// belong to, for AWS IAM GRANT. IAM allows it everything; a database role besides
// admin must be granted to it.
func (c *Cluster) Principal() string { return principal }

// Options are what a client needs besides the endpoint: whom to trust, where to
// dial, and credentials. Pass them to any door of package dsql, before or after
// options of your own.
func (c *Cluster) Options() []dsql.Option {
	roots := x509.NewCertPool()
	roots.AddCert(c.authority.certificate)
	provider := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return c.credentials(), nil
	})
	return []dsql.Option{dsql.WithRootCAs(roots), dsql.WithDialFunc(c.dial), dsql.WithCredentials(provider)}
}

func (c *Cluster) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", c.Address())
}

// Address is where the cluster listens, host:port on the loopback, for clients
// that are not made with [Cluster.Options]. They must send the endpoint as SNI.
func (c *Cluster) Address() string { return c.listener.net.Addr().String() }

// CertPEM is the certificate authority to trust, for such clients (sslrootcert
// of libpq). All clusters of a process have the same one.
func (c *Cluster) CertPEM() []byte { return c.authority.pem() }

// LastRefusal is why a client was last not let in, and whether any was. A client
// that did not say which cluster it wants is nobody's: its error tells all.
func (c *Cluster) LastRefusal() (Refusal, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusal == nil {
		return Refusal{}, false
	}
	return *c.refusal, true
}

// Close cuts all connections and removes the cluster with all that is in it. A
// second call does nothing and returns what the first did.
func (c *Cluster) Close() error { return c.close() }

// String is the endpoint.
func (c *Cluster) String() string { return c.Endpoint() }

func (c *Cluster) shut() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.sessions.Wait()
	leave(c)
	return c.drop()
}

func (c *Cluster) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	if err := c.engine.DropDatabase(ctx, c.database); err != nil {
		return fmt.Errorf("dsqltest: removing the cluster's database: %w", err)
	}
	return nil
}

// enter counts a session in, unless the cluster is closed. The session must
// call sessions.Done at its end.
func (c *Cluster) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.sessions.Add(1)
	return true
}

func (c *Cluster) note(refusal *Refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusal = refusal
}
