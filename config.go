package dsql

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/credcache"
	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/params"
	"github.com/go-dsql/dsql/internal/redact"
	"github.com/go-dsql/dsql/internal/seal"
)

// Limits of a token's lifetime. The maximum is documented by AWS:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/SECTION_authentication-token.html
const (
	defaultTokenLifetime = 15 * time.Minute
	minTokenLifetime     = time.Second
	maxTokenLifetime     = 7 * 24 * time.Hour
)

const adminRole = "admin"

// Config describes which cluster to open, as which role, and how. Config{Endpoint: e} alone is
// valid; every other field has a default. [NewConnector] validates it. A Config is never modified
// and may be shared.
//
// Printing a Config shows no secret. Printing a struct that holds one in an unexported field does
// not call its methods: fmt then prints what Credentials holds by value, such as a
// credentials.StaticCredentialsProvider. [WithCredentials] and [WithAWSConfig] store what prints as
// an address.
type Config struct {
	// Endpoint is the cluster's host name, <cluster ID>.dsql.<region>.on.aws, or its PrivateLink
	// name <cluster ID>.dsql-<service>.<region>.on.aws, or the 26-character cluster ID alone, or a
	// custom DNS name (then Region is required). Surrounding space, a final dot and :5432 are
	// removed, and host names become lower case. Required.
	Endpoint string

	// Region is the AWS Region that tokens are signed for. Empty: inferred from the endpoint's name
	// or, for a bare cluster ID, taken from the AWS configuration (AWS_REGION, the profile).
	Region string

	// User is the database role. Empty: "admin", which needs the IAM action dsql:DbConnectAdmin;
	// every other role needs dsql:DbConnect.
	User string

	// TokenLifetime is how long a token can open a connection, in whole seconds from 1 second to
	// 7 days. 0: 15 minutes. A connection outlives its token. Credentials that expire sooner
	// shorten the token's lifetime.
	TokenLifetime time.Duration

	// Credentials sign the tokens. Nil: those of AWSConfig, otherwise the SDK's default chain
	// (environment, shared files, SSO, container, instance). See [WithCredentials].
	Credentials aws.CredentialsProvider

	// Profile names the profile of the shared AWS files that supplies the credentials and, where
	// needed, the region. Empty: AWS_PROFILE or "default".
	Profile string

	// AWSConfig is a loaded configuration, of which Credentials and Region are read. Nil: the
	// default one is loaded where credentials or the region are needed from it.
	AWSConfig *aws.Config

	// RootCAs are the certificate authorities that the server's certificate is verified against.
	// They are copied. Nil: the system's.
	RootCAs *x509.CertPool

	// DialFunc opens the TCP connection. It receives "tcp" and "HOST:5432" with the endpoint's
	// name, which has not been looked up. Nil: a net.Dialer, which races IPv6 and IPv4 addresses.
	// See [WithDialFunc].
	DialFunc pgconn.DialFunc

	// DialAddress is where TCP connections are routed in place of the endpoint's own addresses: a
	// host, host:port, or an IP address. Mutually exclusive with DialFunc. See [WithDialAddress].
	DialAddress string

	// Failover are the endpoints of a multi-Region cluster in its other Regions, in order of
	// preference. See [WithFailover].
	Failover []Peer

	// NearestFirst prefers the endpoint of the Region in AWS_REGION. See [WithNearestFirst].
	NearestFirst bool

	// CredentialsTimeout is how long one connection waits for credentials, from 1 millisecond to 30
	// seconds. 0: 10 seconds.
	CredentialsTimeout time.Duration

	// RuntimeParams are session parameters sent at startup, such as search_path. application_name
	// is "dsql-go/<version>" unless set here. See [WithRuntimeParam].
	RuntimeParams map[string]string

	// Settings are pgx's and pgxpool's own, with the names and the spelling of a URL:
	// sslnegotiation, connect_timeout, default_query_exec_mode and pool_*. See [ParseURL].
	Settings map[string]string

	// ConnectLimiter delays new connections: Wait is called once for each. Connectors created from
	// one Config share it. Nil: each [Connector] has its own for DSQL's quota, 100 a second after a
	// burst of 1000. See [WithConnectRate] and [WithConnectLimiter].
	ConnectLimiter interface{ Wait(context.Context) error }

	// Logger receives a record of each connection. Nil: nothing is logged. See [WithLogger].
	Logger *slog.Logger

	// PoolConfig edits the configuration of pools and connections before it is sealed. See
	// [WithPoolConfig].
	PoolConfig func(*pgxpool.Config) error
}

// apply returns c as edited by opts.
func (c Config) apply(opts []Option) (Config, error) {
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

// String returns the cluster and the role, and no secret.
func (c Config) String() string {
	user := c.User
	if user == "" {
		user = adminRole
	}
	// An invalid endpoint may be a URL with a password in it.
	if _, err := endpoint.BareName(c.Endpoint); err != nil {
		return fmt.Sprintf("dsql.Config{%s at an invalid endpoint}", user)
	}
	return fmt.Sprintf("dsql.Config{%s at %s}", user, c.Endpoint)
}

// GoString returns what String does, for %#v.
func (c Config) GoString() string { return c.String() }

// MarshalText returns what String does, for JSON and log handlers.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// validate checks what needs neither the endpoint nor AWS.
func (c Config) validate() error {
	return cmp.Or(
		checkUser(c.User),
		checkTokenLifetime(cmp.Or(c.TokenLifetime, defaultTokenLifetime)),
		checkCredentialsTimeout(cmp.Or(c.CredentialsTimeout, defaultCredentialsTimeout)),
		params.Check(c.RuntimeParams),
		params.CheckSettings(c.Settings),
		c.checkTogether(),
	)
}

// checkTogether refuses fields that contradict each other, and nil pointers in interfaces.
func (c Config) checkTogether() error {
	switch {
	case c.DialAddress != "" && c.DialFunc != nil:
		return errors.New("dsql: DialAddress and DialFunc are mutually exclusive")
	case c.Profile != "" && c.Credentials != nil:
		return errors.New("dsql: Credentials and Profile are mutually exclusive")
	case c.Profile != "" && c.AWSConfig != nil:
		return errors.New("dsql: AWSConfig and Profile are mutually exclusive: load the configuration with that profile, or use the profile alone")
	case c.Credentials != nil && seal.IsNil(c.Credentials):
		return fmt.Errorf("dsql: Credentials must not be a nil %T", c.Credentials)
	case c.ConnectLimiter != nil && seal.IsNil(c.ConnectLimiter):
		return fmt.Errorf("dsql: ConnectLimiter must not be a nil %T", c.ConnectLimiter)
	}
	return nil
}

func checkUser(role string) error {
	switch {
	case role != adminRole && strings.EqualFold(strings.TrimSpace(role), adminRole):
		return fmt.Errorf("dsql: invalid role %q: did you mean \"admin\"?", role)
	case role != strings.TrimSpace(role):
		return fmt.Errorf("dsql: the role %s must not have surrounding space", redact.Value(role))
	case strings.ContainsRune(role, 0):
		return errors.New("dsql: the role must not contain a NUL byte")
	case len(role) > 63:
		return fmt.Errorf("dsql: the role is %d bytes long and must have at most 63, as every name in PostgreSQL", len(role))
	}
	return nil
}

func checkCredentialsTimeout(d time.Duration) error {
	if d < time.Millisecond || d > credcache.CallTimeout {
		return fmt.Errorf("dsql: the credentials timeout %v must be between 1ms and %v", d, credcache.CallTimeout)
	}
	return nil
}

func checkTokenLifetime(d time.Duration) error {
	if d < minTokenLifetime || d > maxTokenLifetime || d%time.Second != 0 {
		return fmt.Errorf("dsql: the token lifetime %v must be whole seconds between 1s and 168h (7 days)", d)
	}
	return nil
}
