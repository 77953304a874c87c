package dsql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Connector is a Config that has been checked and resolved, from which every
// kind of client is made. It is safe for concurrent use and is never closed.
type Connector struct {
	endpoint           endpoint
	user               string
	tokenLifetime      time.Duration
	credentials        *aws.CredentialsCache
	credentialsTimeout time.Duration
	connects           *connectGuard // nil: no limit
	logger             *slog.Logger  // nil: silence
	seal               seal
	pool               *pgxpool.Config // never handed out, only copies of it
	// userBeforeConnect is the caller's own, run by ours.
	userBeforeConnect func(context.Context, *pgx.ConnConfig) error
}

// NewConnector checks cfg and resolves what it leaves open: the region, the AWS
// configuration, and the credentials, which are asked for once to see that there
// are any. It does not connect to the cluster. Loading and asking are given 30
// seconds, or less if ctx ends sooner.
func NewConnector(ctx context.Context, cfg Config) (*Connector, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, constructTimeout)
	defer cancel()

	c := &Connector{
		user:               cmp.Or(cfg.User, adminRole),
		tokenLifetime:      cmp.Or(cfg.TokenLifetime, defaultTokenLifetime),
		credentialsTimeout: cmp.Or(cfg.CredentialsTimeout, defaultCredentialsTimeout),
		logger:             cfg.Logger,
	}
	var err error
	if c.connects, err = newConnectGuard(cfg.ConnectRate, cfg.ConnectBurst); err != nil {
		return nil, err
	}
	if err := c.resolve(ctx, cfg); err != nil {
		return nil, err
	}
	if err := c.buildPoolConfig(cfg); err != nil {
		return nil, err
	}
	if _, err := c.token(ctx, constructTimeout); err != nil {
		return nil, err
	}
	return c, nil
}

// resolve finds the endpoint, the region and the credentials' provider. The AWS
// configuration is loaded only where something is needed from it.
func (c *Connector) resolve(ctx context.Context, cfg Config) error {
	given, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return err
	}
	needRegion := given.host == "" && cfg.Region == ""
	if !needRegion {
		if c.endpoint, err = given.in(cfg.Region); err != nil {
			return err
		}
	}

	awsConfig := cfg.AWSConfig
	provider := cfg.Credentials
	if awsConfig == nil && (provider == nil || needRegion) {
		loaded, err := loadAWSConfig(ctx, cfg.Profile)
		if err != nil {
			return err
		}
		awsConfig = &loaded
	}
	if needRegion {
		if c.endpoint, err = given.in(awsConfig.Region); err != nil {
			return err
		}
	}
	if provider == nil {
		provider = awsConfig.Credentials
	}
	if provider == nil {
		return advise(noCredentials, errors.New("dsql: no AWS credentials: the aws.Config that was given has no credentials provider"))
	}
	c.credentials = newCredentialsCache(provider)
	from := "option"
	switch {
	case given.region != "":
		from = "endpoint"
	case needRegion:
		from = "AWS configuration"
	}
	c.log(ctx, slog.LevelDebug, "dsql: cluster", slog.String("region", c.endpoint.region), slog.String("region_from", from))
	return nil
}

// PoolConfig returns a configuration for pgxpool.NewWithConfig, with the seal
// and a BeforeConnect that makes each connection's token. Each call returns a
// copy, which is the caller's to change. Whoever puts a BeforeConnect of their
// own in must call the one that is there last; without it there is no token and
// every connection fails. Better: [WithPoolConfig].
func (c *Connector) PoolConfig() *pgxpool.Config {
	return c.pool.Copy()
}

// ConnConfig returns a configuration for pgx.ConnectConfig with a fresh token in
// Password: use it for one connection, now. It fails where [Connector.Token]
// does. Each call returns a copy.
func (c *Connector) ConnConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	cc := c.pool.ConnConfig.Copy()
	if err := c.prepare(ctx, cc); err != nil {
		return nil, err
	}
	return cc, nil
}

// String shows the cluster and the role, and no secret.
func (c *Connector) String() string {
	return fmt.Sprintf("dsql.Connector{%s at %s}", c.user, c.endpoint.host)
}

// GoString is String, so that %#v shows no secret either.
func (c *Connector) GoString() string { return c.String() }
