package dsql

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/params"
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

	// DialAddress is where TCP goes in place of the endpoint's own addresses: a
	// host, host:port, or an IP address. Not with DialFunc. See
	// [WithDialAddress].
	DialAddress string

	// CredentialsTimeout is how long one connection waits for credentials, up to
	// 30 seconds. 0: 10 seconds.
	CredentialsTimeout time.Duration

	// RuntimeParams are session parameters sent at startup, such as search_path.
	// application_name is "dsql-go/<version>" unless it is named here. See
	// [WithRuntimeParam].
	RuntimeParams map[string]string

	// Settings are pgx's and pgxpool's own, by the names and in the spelling of a
	// URL: sslnegotiation, connect_timeout, default_query_exec_mode and pool_*.
	// See [ParseURL].
	Settings map[string]string

	// ConnectRate is how many connections a second each [Connector] may begin to
	// open, after ConnectBurst at once. 0: 100 and 1000, DSQL's own quota. A
	// negative rate: no limit. See [WithConnectRate].
	ConnectRate  float64
	ConnectBurst int

	// Logger is told of each connection. Nil: silence. See [WithLogger].
	Logger *slog.Logger

	// PoolConfig edits the configuration of pools and connections before it is
	// sealed. See [WithPoolConfig].
	PoolConfig func(*pgxpool.Config) error
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
	if _, err := endpoint.BareName(c.Endpoint); err != nil {
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
	if c.CredentialsTimeout != 0 {
		if err := checkCredentialsTimeout(c.CredentialsTimeout); err != nil {
			return err
		}
	}
	if err := params.Check(c.RuntimeParams); err != nil {
		return err
	}
	if err := params.CheckSettings(c.Settings); err != nil {
		return err
	}
	if c.DialAddress != "" && c.DialFunc != nil {
		return errors.New("dsql: DialAddress and DialFunc both say where TCP goes: give one of them")
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

func checkCredentialsTimeout(d time.Duration) error {
	if d < time.Millisecond || d > providerTimeout {
		return fmt.Errorf("dsql: the credentials timeout %v is not between 1ms and %v", d, providerTimeout)
	}
	return nil
}

func checkTokenLifetime(d time.Duration) error {
	if d < minTokenLifetime || d > maxTokenLifetime || d%time.Second != 0 {
		return fmt.Errorf("dsql: the token lifetime %v is not whole seconds between 1s and 168h (7 days)", d)
	}
	return nil
}
