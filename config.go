package dsql

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Limits of a token's lifetime. The longest is AWS's documented one:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/SECTION_authentication-token.html
const (
	defaultTokenLifetime = 15 * time.Minute
	minTokenLifetime     = time.Second
	maxTokenLifetime     = 7 * 24 * time.Hour
)

const adminRole = "admin"

// Config says which cluster to open, as whom, and how. Config{Endpoint: e}
// alone is valid; every other field has a default. [NewConnector] checks it.
// A Config is read, never changed, and may be shared. Printing one shows no
// secret.
type Config struct {
	// Endpoint is the cluster's host name, <cluster ID>.dsql.<region>.on.aws, or
	// its PrivateLink name <cluster ID>.dsql-<service>.<region>.on.aws, or the
	// 26-character cluster ID alone, or a DNS name of your own (then Region must
	// be given). Space around it, upper case, a final dot and :5432 are taken
	// off. Required.
	Endpoint string

	// Region is the AWS Region that tokens are signed for. Empty: the one in the
	// endpoint's name, else, for a bare cluster ID, the one of the AWS
	// configuration (AWS_REGION, the profile).
	Region string

	// User is the database role. Empty: "admin", which needs the IAM action
	// dsql:DbConnectAdmin; every other role needs dsql:DbConnect.
	User string

	// TokenLifetime is how long a token is good for opening a connection, in
	// whole seconds from 1 second to 7 days. 0: 15 minutes. A connection
	// outlives its token. Credentials that end sooner end the token with them.
	TokenLifetime time.Duration

	// Credentials sign the tokens. Nil: those of AWSConfig, else the SDK's
	// default chain (environment, shared files, SSO, container, instance).
	Credentials aws.CredentialsProvider

	// Profile names the profile of the shared AWS files to take credentials,
	// and where needed the region, from. Empty: AWS_PROFILE or "default".
	Profile string

	// AWSConfig is a configuration that has been loaded already. Nil: the
	// default one is loaded where credentials or the region are needed from it.
	AWSConfig *aws.Config

	// RootCAs are the certificate authorities that may vouch for the server.
	// Nil: the system's, which know Amazon's.
	RootCAs *x509.CertPool

	// DialFunc opens the TCP connection. It is given "tcp" and "HOST:5432" with
	// the endpoint's name, which has not been looked up. Nil: a net.Dialer, to
	// each address of the name in turn. See [WithDialFunc].
	DialFunc pgconn.DialFunc

	// RuntimeParams are session parameters sent at startup, such as search_path.
	// application_name is "dsql-go/<version>" unless it is named here.
	RuntimeParams map[string]string

	// PoolConfig edits the configuration of pools and connections before it is
	// sealed. See [WithPoolConfig].
	PoolConfig func(*pgxpool.Config) error
}

// Option edits a Config. Options are applied in order.
type Option func(*Config) error

// WithUser connects as role instead of admin. Its tokens are signed for the IAM
// action dsql:DbConnect. The role must exist with LOGIN and be granted to the
// IAM principal (AWS IAM GRANT role TO 'arn').
func WithUser(role string) Option {
	return func(c *Config) error {
		if role == "" {
			return errors.New("dsql: WithUser was given an empty role: name one, or leave the option out for admin")
		}
		c.User = role
		return nil
	}
}

// WithCredentials signs tokens with p's credentials. p is asked once per life
// of its credentials, not once per connection.
func WithCredentials(p aws.CredentialsProvider) Option {
	return func(c *Config) error {
		if p == nil {
			return errors.New("dsql: WithCredentials was given nil: give a provider, or leave the option out for the SDK's default chain")
		}
		c.Credentials = p
		return nil
	}
}

// WithAWSConfig takes credentials, and the region where the endpoint does not
// tell it, from a loaded AWS configuration.
func WithAWSConfig(cfg aws.Config) Option {
	return func(c *Config) error {
		c.AWSConfig = &cfg
		return nil
	}
}

// WithProfile takes credentials, and the region where the endpoint does not
// tell it, from a profile of the shared AWS files.
func WithProfile(name string) Option {
	return func(c *Config) error {
		if name == "" {
			return errors.New("dsql: WithProfile was given an empty name: name a profile, or leave the option out for AWS_PROFILE")
		}
		c.Profile = name
		return nil
	}
}

// WithTokenLifetime sets how long a token is good for opening a connection: 1
// second to 7 days, in whole seconds.
func WithTokenLifetime(d time.Duration) Option {
	return func(c *Config) error {
		if err := checkTokenLifetime(d); err != nil {
			return err
		}
		c.TokenLifetime = d
		return nil
	}
}

// WithRootCAs trusts the server's certificate if pool vouches for it, in place
// of the system's authorities. The name is verified as ever.
func WithRootCAs(pool *x509.CertPool) Option {
	return func(c *Config) error {
		if pool == nil {
			return errors.New("dsql: WithRootCAs was given nil: give a pool, or leave the option out for the system's")
		}
		c.RootCAs = pool
		return nil
	}
}

// WithDialFunc opens TCP connections with f: through a proxy, a tunnel or a
// test's listener. f is given "tcp" and "HOST:5432", where HOST is the endpoint
// and nothing has been looked up. The name that is signed, sent as SNI and
// verified stays the endpoint. Cancel requests are dialled the same way.
func WithDialFunc(f pgconn.DialFunc) Option {
	return func(c *Config) error {
		if f == nil {
			return errors.New("dsql: WithDialFunc was given nil: give a function, or leave the option out for the default dialer")
		}
		c.DialFunc = f
		return nil
	}
}

// WithRuntimeParam sets a session parameter at startup, such as search_path or
// application_name. Given twice for one name, the later value counts.
func WithRuntimeParam(name, value string) Option {
	return func(c *Config) error {
		if err := checkRuntimeParam(name, value); err != nil {
			return err
		}
		params := maps.Clone(c.RuntimeParams)
		if params == nil {
			params = make(map[string]string)
		}
		params[name] = value
		c.RuntimeParams = params
		return nil
	}
}

// WithPoolConfig lets f tune the configuration before it is sealed: sizes,
// times, hooks, tracers, query modes, trust roots, where TCP goes. Several run
// in order; an error ends construction.
//
// A BeforeConnect that f sets runs for each connection, before its token is
// made. Neither f nor that hook may change the host, the port, the database,
// the user, the password, the fallbacks, or how the server's certificate is
// verified: construction, or the connection, then fails with an error that
// names the field. [Connect] uses what belongs to one connection (ConnConfig and
// BeforeConnect) and leaves the rest to pools.
func WithPoolConfig(f func(*pgxpool.Config) error) Option {
	return func(c *Config) error {
		if f == nil {
			return errors.New("dsql: WithPoolConfig was given nil: give a function, or leave the option out")
		}
		before := c.PoolConfig
		c.PoolConfig = func(p *pgxpool.Config) error {
			if before != nil {
				if err := before(p); err != nil {
					return err
				}
			}
			return f(p)
		}
		return nil
	}
}

func newConfig(endpoint, region string, opts []Option) (Config, error) {
	c := Config{Endpoint: endpoint, Region: region}
	for i, opt := range opts {
		if opt == nil {
			return Config{}, fmt.Errorf("dsql: option %d is nil", i+1)
		}
		if err := opt(&c); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// String shows the cluster and the role, and no secret.
func (c Config) String() string {
	user := c.User
	if user == "" {
		user = adminRole
	}
	// An endpoint that is refused may be a URL with a password in it.
	if _, err := bareName(c.Endpoint); err != nil {
		return fmt.Sprintf("dsql.Config{%s at an invalid endpoint}", user)
	}
	return fmt.Sprintf("dsql.Config{%s at %s}", user, c.Endpoint)
}

// GoString is String, so that %#v shows no secret either.
func (c Config) GoString() string { return c.String() }

// validate checks what needs neither the endpoint nor AWS.
func (c Config) validate() error {
	if err := checkUser(c.User); err != nil {
		return err
	}
	if c.TokenLifetime != 0 {
		if err := checkTokenLifetime(c.TokenLifetime); err != nil {
			return err
		}
	}
	for name, value := range c.RuntimeParams {
		if err := checkRuntimeParam(name, value); err != nil {
			return err
		}
	}
	if c.Profile != "" && c.Credentials != nil {
		return errors.New("dsql: Credentials and Profile both say where credentials come from: give one of them")
	}
	if c.Profile != "" && c.AWSConfig != nil {
		return errors.New("dsql: AWSConfig and Profile contradict: load the configuration with that profile, or give the profile alone")
	}
	return nil
}

func checkUser(role string) error {
	switch {
	case role != adminRole && strings.EqualFold(strings.TrimSpace(role), adminRole):
		return fmt.Errorf("dsql: the role %q is not admin, though it looks like it: give \"admin\"", role)
	case role != strings.TrimSpace(role):
		return fmt.Errorf("dsql: the role %q has space around it: give the bare name", role)
	case strings.ContainsRune(role, 0):
		return fmt.Errorf("dsql: the role %q has a NUL in it", role)
	case len(role) > 63:
		return fmt.Errorf("dsql: the role %q is %d bytes long, PostgreSQL's names have at most 63", role, len(role))
	}
	return nil
}

func checkTokenLifetime(d time.Duration) error {
	if d < minTokenLifetime || d > maxTokenLifetime || d%time.Second != 0 {
		return fmt.Errorf("dsql: the token lifetime %v is not whole seconds between 1s and 168h (7 days)", d)
	}
	return nil
}

func checkRuntimeParam(name, value string) error {
	switch strings.ToLower(name) {
	case "":
		return errors.New("dsql: a runtime parameter has an empty name")
	case "user":
		return errors.New("dsql: the role is not a runtime parameter: use WithUser")
	case "password":
		return errors.New("dsql: the password is not a runtime parameter: tokens are made for you")
	case "database", "dbname":
		return errors.New("dsql: the database is not a runtime parameter: it is always postgres")
	}
	if strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0) {
		return fmt.Errorf("dsql: the runtime parameter %q has a NUL in it", name)
	}
	return nil
}
