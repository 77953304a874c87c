package dsqltest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/keep"
	"github.com/go-dsql/dsql/internal/postgres"
	"github.com/go-dsql/dsql/internal/proxy"
)

// dropTimeout bounds the removal of a closed cluster's database.
const dropTimeout = 30 * time.Second

// principal is the IAM principal that the cluster's credentials belong to.
const principal = "arn:aws:iam::123456789012:role/dsqltest"

// Cluster is a local cluster: a database of the process's PostgreSQL server, behind a proxy that
// speaks DSQL's side of the protocol. With [WithPeer] it is one of the cluster's two endpoints. It is
// safe for concurrent use.
type Cluster struct {
	region      string
	caFile      string                 // path of CertPEM
	awsFile     string                 // path of an AWS configuration file with the credentials
	credentials func() aws.Credentials // a function, so that printing shows no key
	server      *postgres.Server
	roles       []string // of WithRole
	shared      *shared
	proxy       *proxy.Proxy
	peer        *Cluster  // the other endpoint; nil: there is none
	kept        *keep.Dir // nil: the data is removed with the cluster
	close       func() error
}

// shared is what a cluster and its peer know about their data.
type shared struct {
	template *template    // what the database was copied from, before ApplySchema
	database atomic.Value // string: its name on the PostgreSQL server
	targeted atomic.Bool  // a fault by target has been set
	changed  atomic.Bool  // by ApplySchema or a fault by target

	replacing sync.Mutex // held while database changes, so that a fault by target is in the new one
}

// database returns the name of the cluster's database, or "" before it is made.
func (c *Cluster) database() string {
	name, _ := c.shared.database.Load().(string)
	return name
}

// Start runs a cluster until the test and its subtests are over. It fails the test if it finds no
// PostgreSQL on the machine.
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

// Run runs a cluster until [Cluster.Close]. ctx applies to starting only. Run fails if it finds no
// PostgreSQL on the machine; the error says what to install.
func Run(ctx context.Context, opts ...Option) (*Cluster, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	server, err := cfg.startServer(ctx)
	if err != nil {
		return nil, fmt.Errorf("dsqltest: starting PostgreSQL: %w", err)
	}
	c := &Cluster{
		credentials: func() aws.Credentials { return cfg.credentials },
		server:      server,
		roles:       cfg.roles,
		shared:      &shared{},
		kept:        cfg.kept,
	}
	c.close = sync.OnceValue(c.shutdown)
	if err := c.createDatabase(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.listen(cfg, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if c.kept != nil {
		if err := c.proxy.LoadFunctions(); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if cfg.peer == "" {
		return c, nil
	}
	c.peer = &Cluster{credentials: c.credentials, server: server, roles: c.roles, shared: c.shared, close: c.close, peer: c}
	cfg.id, cfg.region = newClusterID(), cfg.peer
	if err := c.peer.listen(cfg, c.proxy); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// listen makes the endpoint reachable. linked is the cluster's other endpoint, if it has one.
func (c *Cluster) listen(cfg config, linked *proxy.Proxy) (err error) {
	c.proxy, err = proxy.Start(proxy.Config{
		ID:             cfg.id,
		Region:         cfg.region,
		Listen:         cfg.listen,
		Server:         c.server,
		Database:       c.database(),
		Credentials:    c.credentials,
		Principal:      principal,
		Linked:         linked,
		Authority:      cfg.authority(),
		MaxConnections: cfg.maxConnections,
		ConnectRate:    cfg.connectRate,
		ConnectBurst:   cfg.connectBurst,
	})
	if err != nil {
		return err
	}
	c.region = cfg.region
	return c.writeFiles()
}

// createDatabase creates the cluster's database and its roles.
func (c *Cluster) createDatabase(ctx context.Context) (err error) {
	if c.kept != nil {
		return c.createKept(ctx)
	}
	if c.shared.template, err = c.roleTemplate(ctx); err != nil {
		return err
	}
	database, err := c.shared.template.copy(ctx, c.server)
	if err != nil {
		return fmt.Errorf("dsqltest: creating the cluster's database: %w", err)
	}
	c.shared.database.Store(database)
	return nil
}

// Endpoint returns the cluster's host name, <26 characters>.dsql.<region>.on.aws. DNS does not
// resolve it: [Cluster.Options] set the address to dial.
func (c *Cluster) Endpoint() string { return c.proxy.Endpoint() }

// Region returns the AWS Region of the cluster.
func (c *Cluster) Region() string { return c.region }

// Peer returns the cluster's endpoint in the other Region, or nil without [WithPeer]. Both are
// endpoints of one database and accept the same credentials, so [Cluster.Options] of either open
// both. Connections, faults, quotas and statistics belong to one endpoint. Close of either closes
// both.
func (c *Cluster) Peer() *Cluster { return c.peer }

// Principal returns the ARN of the IAM role that the credentials of [Cluster.Options] belong to,
// for AWS IAM GRANT. IAM allows it everything; database roles other than admin must be granted
// to it.
func (c *Cluster) Principal() string { return principal }

// Options returns what a client needs in addition to the endpoint: root CAs, the dial address and
// credentials. Pass them to any constructor of package dsql, before or after your own options.
func (c *Cluster) Options() []dsql.Option {
	cfg := c.Config()
	return []dsql.Option{dsql.WithRootCAs(cfg.RootCAs), dsql.WithDialFunc(cfg.DialFunc), dsql.WithCredentials(cfg.Credentials)}
}

func (c *Cluster) roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CertPEM())
	return roots
}

func (c *Cluster) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", c.Address())
}

// Address returns the address to dial, host:port, for clients that are not configured by
// [Cluster.Options]. They must send the endpoint as SNI.
func (c *Cluster) Address() string { return c.proxy.Address() }

// CertPEM returns the certificate authority that such clients must trust (libpq's sslrootcert). It
// is the same for all clusters of a process.
func (c *Cluster) CertPEM() []byte { return c.proxy.CertPEM() }

// Close cuts all connections and removes the cluster with its data. A second call does nothing and
// returns the result of the first.
func (c *Cluster) Close() error { return c.close() }

// String returns the endpoint.
func (c *Cluster) String() string { return c.Endpoint() }

func (c *Cluster) shutdown() error {
	var errs []error
	for _, endpoint := range []*Cluster{c, c.peer} {
		if endpoint == nil {
			continue
		}
		if endpoint.proxy != nil {
			endpoint.proxy.Close()
		}
		if c.kept != nil {
			continue
		}
		errs = append(errs, endpoint.removeFiles())
	}
	if c.kept != nil {
		return c.server.Stop()
	}
	return errors.Join(append(errs, c.dropDatabase())...)
}

func (c *Cluster) dropDatabase() error {
	if c.database() == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	if err := c.server.DropDatabase(ctx, c.database()); err != nil {
		return fmt.Errorf("dsqltest: removing the cluster's database: %w", err)
	}
	return nil
}
