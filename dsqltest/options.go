package dsqltest

import (
	"crypto/rand"
	"fmt"
	"net"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/keep"
)

const (
	adminRole     = "admin"
	defaultRegion = "us-east-1"
)

type config struct {
	region         string
	peer           string // Region of the second endpoint; empty: there is none
	listen         string // host:port; empty: a free port on loopback
	id             string // cluster ID
	credentials    aws.Credentials
	roles          []string // other than admin
	maxConnections int      // 0: no limit
	connectRate    float64  // connections a second; 0: no limit
	connectBurst   int
	kept           *keep.Dir // nil: the data is removed with the cluster
}

// Option sets one property of a cluster that is about to start.
type Option func(*config) error

func newConfig(opts []Option) (config, error) {
	cfg := config{
		region: defaultRegion,
		id:     newClusterID(),
		credentials: aws.Credentials{
			AccessKeyID:     "AKIA" + rand.Text()[:16],
			SecretAccessKey: (rand.Text() + rand.Text())[:40],
			Source:          "dsqltest",
		},
	}
	for i, opt := range opts {
		if opt == nil {
			return config{}, fmt.Errorf("dsqltest: option %d is nil", i+1)
		}
		if err := opt(&cfg); err != nil {
			return config{}, err
		}
	}
	if cfg.peer == cfg.region {
		return config{}, fmt.Errorf("dsqltest: WithPeer(%q): must be another Region than the cluster's", cfg.peer)
	}
	return cfg, nil
}

// WithRegion sets the AWS Region of the cluster, which is part of its endpoint and of the tokens
// that it accepts. The default is us-east-1.
func WithRegion(region string) Option {
	return func(cfg *config) error {
		if !endpoint.IsRegion(region) {
			return fmt.Errorf("dsqltest: WithRegion(%q): must be an AWS Region's name, such as us-east-1", region)
		}
		cfg.region = region
		return nil
	}
}

// WithPeer makes the cluster a multi-Region one: [Cluster.Peer] is its endpoint in another Region.
func WithPeer(region string) Option {
	return func(cfg *config) error {
		if !endpoint.IsRegion(region) {
			return fmt.Errorf("dsqltest: WithPeer(%q): must be an AWS Region's name, such as us-east-2", region)
		}
		cfg.peer = region
		return nil
	}
}

// newClusterID returns 26 characters, as a cluster ID has.
func newClusterID() string { return strings.ToLower(rand.Text()) }

// WithListenAddress sets the address that the cluster listens on, host:port, such as
// 127.0.0.1:5432. Port 0 is a free one. Clusters of one process may listen on the same address. The
// default is a free port on loopback.
func WithListenAddress(address string) Option {
	return func(cfg *config) error {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("dsqltest: WithListenAddress(%q): must be host:port, such as 127.0.0.1:5432", address)
		}
		cfg.listen = address
		return nil
	}
}

// WithClusterID sets the cluster's ID, the first part of its endpoint: 26 characters of a-z and 0-9.
// The default is random.
func WithClusterID(id string) Option {
	return func(cfg *config) error {
		if !endpoint.IsClusterID(id) {
			return fmt.Errorf("dsqltest: WithClusterID(%q): must be 26 characters of a-z and 0-9", id)
		}
		cfg.id = id
		return nil
	}
}

// WithCredentials sets the AWS credentials that sign the tokens the cluster accepts. The default is
// random. They protect nothing: do not use credentials of an AWS account.
func WithCredentials(accessKeyID, secretAccessKey string) Option {
	return func(cfg *config) error {
		for _, key := range []string{accessKeyID, secretAccessKey} {
			if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
				return fmt.Errorf("dsqltest: WithCredentials: each key must be printable ASCII without spaces, and not empty")
			}
		}
		cfg.credentials.AccessKeyID, cfg.credentials.SecretAccessKey = accessKeyID, secretAccessKey
		return nil
	}
}

// WithRole creates a database role other than admin, as do
//
//	CREATE ROLE name WITH LOGIN
//	AWS IAM GRANT name TO '<the cluster's principal>'
//
// Repeat the option for further roles.
func WithRole(name string) Option {
	return func(cfg *config) error {
		switch {
		case name == "":
			return fmt.Errorf("dsqltest: WithRole: the name must not be empty")
		case name == adminRole:
			return fmt.Errorf("dsqltest: WithRole: the role admin always exists: omit the option")
		case name == "postgres", name == "dsqltest", strings.HasPrefix(name, "pg_"):
			return fmt.Errorf("dsqltest: WithRole: the name %q is reserved: use another", name)
		case len(name) > 63, strings.ContainsRune(name, 0):
			return fmt.Errorf("dsqltest: WithRole: invalid name %q: must have at most 63 bytes and no NUL", name)
		}
		cfg.roles = append(cfg.roles, name)
		return nil
	}
}

// WithConnectionLimit refuses connections beyond n open ones, with SQLSTATE 53300. DSQL's quota is
// 10,000. Without the option the limit is PostgreSQL's, about 2,000 for all clusters of the process;
// connections beyond it are refused with SQLSTATE 53000, which DSQL does not use.
func WithConnectionLimit(n int) Option {
	return func(cfg *config) error {
		if n < 1 {
			return fmt.Errorf("dsqltest: WithConnectionLimit(%d): must be 1 or more", n)
		}
		cfg.maxConnections = n
		return nil
	}
}

// WithConnectQuota refuses connections beyond perSecond a second after a burst, with SQLSTATE
// 53400. DSQL's quota is 100 and 1,000. Every connection that names the cluster counts, also one
// whose token is then refused. dsql.WithConnectRate keeps a client within such a quota.
func WithConnectQuota(perSecond float64, burst int) Option {
	return func(cfg *config) error {
		if !(perSecond > 0) || burst < 1 {
			return fmt.Errorf("dsqltest: WithConnectQuota(%v, %d): the rate must be more than 0 and the burst 1 or more", perSecond, burst)
		}
		cfg.connectRate, cfg.connectBurst = perSecond, burst
		return nil
	}
}
