package dsql

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/connrate"
	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/params"
)

const (
	port     = endpoint.Port
	database = "postgres"
	alpn     = "postgresql" // what PostgreSQL's direct TLS negotiates

	// sessionLimit is when DSQL closes a connection, whatever it is doing:
	// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
	sessionLimit = 60 * time.Minute
)

// everyKey names every key that pgx would else take from PG* variables, service
// files or the home directory, and holds the defaults. What differs between
// clusters is set on what comes out.
const everyKey = "host=dsql port=5432 dbname=postgres user=dsql password='' passfile=''" +
	" sslmode=verify-full sslnegotiation=direct sslrootcert='' sslcert='' sslkey='' sslpassword='' sslcertmode=allow sslsni=1" +
	" connect_timeout=10 target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0" +
	" channel_binding=prefer require_auth='' krbsrvname='' krbspn=''" +
	" default_query_exec_mode=cache_statement statement_cache_capacity=512 description_cache_capacity=512" +
	" pool_max_conns=%d pool_min_conns=0 pool_min_idle_conns=0" +
	" pool_max_conn_lifetime=50m pool_max_conn_lifetime_jitter=5m pool_max_conn_idle_time=10m" +
	" pool_health_check_period=1m pool_ping_timeout=5s"

// Connector is a Config that has been checked and resolved, from which every
// kind of client is made. It is safe for concurrent use and is never closed.
type Connector struct {
	endpoint           endpoint.Endpoint
	user               string
	tokenLifetime      time.Duration
	credentials        *aws.CredentialsCache
	credentialsTimeout time.Duration
	connects           *connrate.Guard // nil: no limit
	logger             *slog.Logger    // nil: silence
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
	if c.connects, err = connrate.New(cfg.ConnectRate, cfg.ConnectBurst); err != nil {
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
	given, err := endpoint.Parse(cfg.Endpoint)
	if err != nil {
		return err
	}
	needRegion := given.Host == "" && cfg.Region == ""
	if !needRegion {
		if c.endpoint, err = given.In(cfg.Region); err != nil {
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
		if c.endpoint, err = given.In(awsConfig.Region); err != nil {
			return err
		}
	}
	if provider == nil {
		provider = awsConfig.Credentials
	}
	if provider == nil {
		return explain.Advise(explain.NoCredentials, errors.New("dsql: no AWS credentials: the aws.Config that was given has no credentials provider"))
	}
	c.credentials = newCredentialsCache(provider)
	from := "option"
	switch {
	case given.Region != "":
		from = "endpoint"
	case needRegion:
		from = "AWS configuration"
	}
	c.log(ctx, slog.LevelDebug, "dsql: cluster", slog.String("region", c.endpoint.Region), slog.String("region_from", from))
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
	return fmt.Sprintf("dsql.Connector{%s at %s}", c.user, c.endpoint.Host)
}

// GoString is String, so that %#v shows no secret either.
func (c *Connector) GoString() string { return c.String() }

// buildPoolConfig makes the configuration that all clients of c share: the
// defaults, what the caller makes of them, and the seal over both.
func (c *Connector) buildPoolConfig(cfg Config) error {
	keys := fmt.Sprintf(everyKey, max(4, runtime.NumCPU())) // pgx's own default size
	for name, value := range cfg.Settings {                 // a later key counts
		keys += " " + name + "=" + value
	}
	p, err := pgxpool.ParseConfig(keys)
	if err != nil {
		if service := os.Getenv("PGSERVICE"); service != "" {
			return fmt.Errorf("dsql: the environment variable PGSERVICE is %q, which pgx cannot read: unset PGSERVICE: %w", service, err)
		}
		return fmt.Errorf("dsql: %w", err)
	}
	cc := p.ConnConfig
	cc.Host, cc.User = c.endpoint.Host, c.user
	cc.TLSConfig = &tls.Config{
		ServerName:         c.endpoint.Host,
		RootCAs:            cfg.RootCAs,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{alpn},
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	cc.RuntimeParams = map[string]string{"application_name": "dsql-go/" + version}
	maps.Copy(cc.RuntimeParams, cfg.RuntimeParams)
	address, err := setDial(cc, cfg)
	if err != nil {
		return err
	}

	if cfg.PoolConfig != nil {
		if err := cfg.PoolConfig(p); err != nil {
			return fmt.Errorf("dsql: the function given to WithPoolConfig: %w", err)
		}
	}
	if err := checkLifetime(p); err != nil {
		return err
	}
	c.seal = seal{host: c.endpoint.Host, user: c.user}
	if p.ConnConfig.TLSConfig != nil {
		c.seal.rootCAs = p.ConnConfig.TLSConfig.RootCAs
	}
	if err := c.seal.check(&p.ConnConfig.Config); err != nil {
		return fmt.Errorf("dsql: WithPoolConfig: %w", err)
	}
	if err := params.Check(p.ConnConfig.RuntimeParams); err != nil {
		return err
	}
	c.pool = p.Copy()
	c.userBeforeConnect = p.BeforeConnect
	c.pool.BeforeConnect = c.beforeConnect
	c.pool.ConnConfig.OnPgError = c.withHint(p.ConnConfig.OnPgError)
	if endpoint.IsVPCEndpoint(address) {
		return c.nameCluster(c.pool.ConnConfig)
	}
	return nil
}

// setDial sets where TCP goes, and returns the fixed address if there is one.
func setDial(cc *pgx.ConnConfig, cfg Config) (address string, err error) {
	switch {
	case cfg.DialFunc != nil:
		dialByName(cc, cfg.DialFunc)
	case cfg.DialAddress != "":
		if address, err = endpoint.ParseDialAddress(cfg.DialAddress); err != nil {
			return "", err
		}
		dialByName(cc, dialAddress(address))
	}
	return address, nil
}

// nameCluster adds the option by which a VPC endpoint finds the cluster, unless
// the caller has.
func (c *Connector) nameCluster(cc *pgx.ConnConfig) error {
	if c.endpoint.ClusterID == "" {
		return fmt.Errorf("dsql: the dial address is a VPC endpoint's, and the endpoint %q does not tell the cluster's ID: give <cluster ID>.dsql.<region>.on.aws", c.endpoint.Host)
	}
	if cc.RuntimeParams == nil {
		cc.RuntimeParams = make(map[string]string)
	}
	if options := cc.RuntimeParams["options"]; !strings.Contains(options, params.ClusterID+"=") {
		cc.RuntimeParams["options"] = params.AppendOption(options, params.ClusterID, c.endpoint.ClusterID)
	}
	return nil
}

// dialByName has f called with the name, not with an address it was found to
// have, and for cancel requests too, which pgx dials by the peer's address.
func dialByName(cc *pgx.ConnConfig, f pgconn.DialFunc) {
	cc.LookupFunc = func(_ context.Context, host string) ([]string, error) {
		return []string{host}, nil
	}
	address := fmt.Sprintf("%s:%d", cc.Host, port)
	cc.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return f(ctx, "tcp", address)
	}
}

func checkLifetime(p *pgxpool.Config) error {
	life, jitter := p.MaxConnLifetime, p.MaxConnLifetimeJitter
	if life <= 0 {
		return fmt.Errorf("dsql: MaxConnLifetime is %v: DSQL closes a connection after %v, so give a lifetime under that", life, sessionLimit)
	}
	if jitter < 0 {
		return fmt.Errorf("dsql: MaxConnLifetimeJitter is %v: give 0 or more", jitter)
	}
	if life >= sessionLimit || jitter >= sessionLimit-life {
		return fmt.Errorf("dsql: MaxConnLifetime %v and MaxConnLifetimeJitter %v, which pgx adds to it, reach the %v after which DSQL closes a connection: keep their sum under that", life, jitter, sessionLimit)
	}
	return nil
}

// beforeConnect makes a configuration ready to connect with, now.
func (c *Connector) beforeConnect(ctx context.Context, cc *pgx.ConnConfig) error {
	giveBack, err := c.connects.Place(ctx)
	if err != nil {
		return err
	}
	if err := c.prepare(ctx, cc); err != nil {
		giveBack()
		return err
	}
	connrate.ReleaseAfterConnect(cc, giveBack)
	return nil
}

// prepare is the last to see a connection's configuration: it runs the caller's
// own hook, checks the seal, and puts the token in.
func (c *Connector) prepare(ctx context.Context, cc *pgx.ConnConfig) error {
	if c.userBeforeConnect != nil {
		if err := c.userBeforeConnect(ctx, cc); err != nil {
			return err
		}
	}
	if err := c.seal.check(&cc.Config); err != nil {
		return fmt.Errorf("dsql: before connecting: %w", err)
	}
	if cc.Password != "" {
		return errors.New("dsql: before connecting: ConnConfig.Password was set: tokens are made for you")
	}
	if err := params.Check(cc.RuntimeParams); err != nil {
		return err
	}
	if err := c.connects.Wait(ctx); err != nil {
		return err
	}
	token, err := c.Token(ctx)
	if err != nil {
		return err
	}
	cc.Password = token
	c.withConnectLog(cc)
	// A tracer still comes between here and the dial.
	cc.AfterNetConnect = c.seal.guard(cc.AfterNetConnect)
	return nil
}

// dialAddress dials address whatever is asked for.
func dialAddress(address string) pgconn.DialFunc {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}

// withHint gives a refusal that has no hint the first sentence of its explanation, for those who see
// a pool's error without [Explain]. pgx replaces errors that do not end the connection after the
// handler, so only refusals and other fatal errors can have one.
func (c *Connector) withHint(next pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		if e.Hint == "" {
			e.Hint = explain.Hint(e, c.user, c.endpoint.Host, c.endpoint.Region)
		}
		return next == nil || next(conn, e)
	}
}
