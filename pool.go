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
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/connstring"
	"github.com/go-dsql/dsql/internal/credcache"
	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/failover"
	"github.com/go-dsql/dsql/internal/params"
	"github.com/go-dsql/dsql/internal/seal"
)

// defaults are the settings of TLS, pgx and pgxpool, as in a connection string.
const defaults = "sslmode=verify-full sslnegotiation=direct sslcertmode=allow channel_binding=prefer connect_timeout=10" +
	" pool_max_conns=%d" +
	" pool_max_conn_lifetime=50m pool_max_conn_lifetime_jitter=5m pool_max_conn_idle_time=10m pool_ping_timeout=5s"

// peerDefaults let idle connections to a peer go within 5 minutes, as those in use do: the pool looks
// at them once a minute.
const peerDefaults = "pool_max_conn_idle_time=4m"

// Connector is a validated and resolved Config, from which every kind of client is made. It is safe
// for concurrent use and need not be closed.
type Connector struct {
	endpoints          []endpoint.Endpoint // in order of preference
	rest               *failover.Set       // their states
	watchdogs          []failover.Watchdog // which finds those that no longer answer
	user               string
	tokenLifetime      time.Duration
	credentials        *credcache.Cache
	credentialsTimeout time.Duration
	limiter            interface{ Wait(context.Context) error }
	logger             *slog.Logger // nil: nothing is logged
	failedConnects     *throttle
	failedTokens       *throttle
	dialer             seal.Dialer
	seal               seal.Seal
	pool               *pgxpool.Config // never handed out, only copies of it
	// userBeforeConnect is the caller's own, run by ours.
	userBeforeConnect func(context.Context, *pgx.ConnConfig) error
	pools             *failover.Pools // of NewPool, if there are peers
}

// NewConnector applies opts to a copy of cfg, validates it and resolves what it leaves open: the
// region, the AWS configuration, and the credentials, which are requested once to see that there are
// any. It does not connect to the cluster. Loading and requesting take at most 30 seconds, or less
// if ctx ends sooner.
func NewConnector(ctx context.Context, cfg Config, opts ...Option) (*Connector, error) {
	cfg, err := cfg.apply(opts)
	if err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, constructTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dsql: NewConnector: %w", err)
	}

	c := &Connector{
		user:               cmp.Or(cfg.User, adminRole),
		tokenLifetime:      cmp.Or(cfg.TokenLifetime, defaultTokenLifetime),
		credentialsTimeout: cmp.Or(cfg.CredentialsTimeout, defaultCredentialsTimeout),
		limiter:            cfg.ConnectLimiter,
		logger:             cfg.Logger,
		pools:              new(failover.Pools),
		failedConnects:     new(throttle),
		failedTokens:       new(throttle),
	}
	if c.limiter == nil {
		c.limiter = newLimiter(defaultConnectRate, defaultConnectBurst)
	}
	if err := c.resolve(ctx, cfg); err != nil {
		return nil, err
	}
	if err := c.buildPoolConfig(cfg); err != nil {
		return nil, err
	}
	if _, err := c.signFor(ctx, c.endpoints[0], constructTimeout); err != nil {
		return nil, err
	}
	return c, nil
}

// resolve finds the endpoint, the region and the credentials' provider. The AWS configuration is
// loaded only where something is needed from it.
func (c *Connector) resolve(ctx context.Context, cfg Config) error {
	given, err := endpoint.Parse(cfg.Endpoint)
	if err != nil {
		return err
	}
	var own endpoint.Endpoint
	needRegion := given.Host == "" && cfg.Region == ""
	if !needRegion {
		if own, err = given.In(cfg.Region); err != nil {
			return err
		}
	}

	awsConfig := cfg.AWSConfig
	provider := cfg.Credentials
	if awsConfig == nil && (provider == nil || needRegion) {
		loaded, err := credcache.LoadConfig(ctx, cfg.Profile)
		if err != nil {
			return err
		}
		awsConfig = &loaded
	}
	if needRegion {
		if awsConfig.Region == "" && cfg.AWSConfig != nil {
			return fmt.Errorf("dsql: the cluster ID %q needs a region: set one, or use the endpoint %s.dsql.<region>.on.aws; the aws.Config has none", given.ClusterID, given.ClusterID)
		}
		if own, err = given.In(awsConfig.Region); err != nil {
			return err
		}
	}
	if provider == nil {
		provider = awsConfig.Credentials
	}
	if seal.IsNil(provider) {
		return explain.Advise(explain.NoCredentials, errors.New("dsql: no AWS credentials: the aws.Config has no credentials provider"))
	}
	c.credentials = &credcache.Cache{Provider: credcache.Conceal(provider)}
	from := "option"
	switch {
	case given.Region != "":
		from = "endpoint"
	case needRegion:
		from = "AWS configuration"
	}
	c.log(ctx, own.Host, slog.LevelDebug, "dsql: cluster", slog.String("region", own.Region), slog.String("region_from", from))
	return c.resolvePeers(own, cfg)
}

// NewPool returns a pool, as the function [NewPool] does.
func (c *Connector) NewPool(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := pgxpool.NewWithConfig(ctx, c.PoolConfig())
	if err != nil {
		return nil, fmt.Errorf("dsql: %w", err)
	}
	if len(c.endpoints) > 1 {
		c.pools.Add(pool)
	}
	return pool, nil
}

// PoolConfig returns a configuration for pgxpool.NewWithConfig, with the seal and a BeforeConnect
// that sets each connection's token. Each call returns a copy, which the caller may change. A
// BeforeConnect that replaces it must end with a call of the one that it replaces: without it there
// is no token, and every connection fails. Prefer [WithPoolConfig].
func (c *Connector) PoolConfig() *pgxpool.Config {
	p := c.pool.Copy()
	c.ownRootCAs(p.ConnConfig)
	return p
}

// ownRootCAs gives cc copies of the root CAs, which the caller may change.
func (c *Connector) ownRootCAs(cc *pgx.ConnConfig) {
	cc.TLSConfig.RootCAs = seal.Clone(c.seal.RootCAs)
	for _, f := range cc.Fallbacks {
		f.TLSConfig.RootCAs = seal.Clone(c.seal.RootCAs)
	}
}

// ConnConfig returns a configuration for pgx.ConnectConfig with a fresh token in Password: use it for
// one connection, now. It waits for [WithConnectRate] and fails where [Connector.Token] does. Each
// call returns a copy. Its Tracer checks the connection and must not be replaced: set yours with
// [WithPoolConfig].
func (c *Connector) ConnConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	cc := c.pool.ConnConfig.Copy()
	c.ownRootCAs(cc)
	g, err := c.prepare(ctx, cc)
	if err != nil {
		return nil, err
	}
	cc.Password = g.token()
	return cc, nil
}

// beforeConnect is the BeforeConnect of pools.
func (c *Connector) beforeConnect(ctx context.Context, cc *pgx.ConnConfig) error {
	_, err := c.prepare(ctx, cc)
	return err
}

// String returns the cluster and the role, and no secret.
func (c *Connector) String() string {
	return fmt.Sprintf("dsql.Connector{%s at %s}", c.user, c.endpoints[0].Host)
}

// GoString returns what String does, for %#v.
func (c *Connector) GoString() string { return c.String() }

// buildPoolConfig builds the configuration that all clients of c share: the defaults, the caller's
// changes, and the seal over both.
func (c *Connector) buildPoolConfig(cfg Config) error {
	settings := fmt.Sprintf(defaults, max(4, runtime.NumCPU())) // pgx's own default size
	if len(c.endpoints) > 1 {
		settings += " " + peerDefaults
	}
	for name, value := range cfg.Settings { // the last value wins
		settings += " " + name + "=" + value
	}
	p, err := connstring.Parse(c.endpoints[0].Host, c.user, settings)
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	cc := p.ConnConfig
	cc.TLSConfig = &tls.Config{
		ServerName:         c.endpoints[0].Host,
		RootCAs:            seal.Clone(cfg.RootCAs),
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{seal.ALPN},
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	cc.RuntimeParams = map[string]string{"application_name": "dsql-go/" + version}
	maps.Copy(cc.RuntimeParams, cfg.RuntimeParams)
	if err := c.setDial(cc, cfg); err != nil {
		return err
	}

	if cfg.PoolConfig != nil {
		if err := cfg.PoolConfig(p); err != nil {
			return fmt.Errorf("dsql: the function passed to WithPoolConfig: %w", err)
		}
	}
	if err := seal.CheckPool(p); err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	c.seal = seal.Seal{Host: c.endpoints[0].Host, User: c.user}
	if t := p.ConnConfig.TLSConfig; t != nil {
		c.seal.RootCAs = seal.Clone(t.RootCAs)
	}
	if err := c.seal.Check("WithPoolConfig", &p.ConnConfig.Config); err != nil {
		return err
	}
	c.pool = p.Copy()
	c.pool.ConnConfig.TLSConfig.RootCAs = seal.Clone(c.seal.RootCAs)
	c.userBeforeConnect = p.BeforeConnect
	c.pool.BeforeConnect = c.beforeConnect
	if len(c.endpoints) > 1 {
		c.addPeers(c.pool.ConnConfig)
		c.rest.Retire(c.pool)
	}
	if endpoint.IsVPCEndpoint(c.dialer.Routed) {
		return c.nameCluster(c.pool.ConnConfig)
	}
	return nil
}

// setDial sets where TCP connections are routed. The names are looked up while dialing, within the
// connect timeout.
func (c *Connector) setDial(cc *pgx.ConnConfig, cfg Config) (err error) {
	cc.LookupFunc, cc.DialFunc = seal.AsIs, seal.NewDialer().DialContext
	f := cfg.DialFunc
	if cfg.DialAddress != "" {
		if c.dialer.Routed, err = endpoint.ParseDialAddress(cfg.DialAddress); err != nil {
			return err
		}
		f = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return seal.NewDialer().DialContext(ctx, network, c.dialer.Routed)
		}
	}
	if f != nil { // for cancel requests too, which pgx dials by the address of the connection
		cc.DialFunc = func(ctx context.Context, _, address string) (net.Conn, error) {
			if c.indexOf(address) < 0 {
				address = seal.HostPort(c.endpoints[endpointOf(ctx)].Host)
			}
			return f(ctx, "tcp", address)
		}
	}
	return nil
}

// nameCluster adds the option by which a VPC endpoint finds the cluster, unless the caller has.
func (c *Connector) nameCluster(cc *pgx.ConnConfig) error {
	if len(c.endpoints) > 1 {
		return errors.New("dsql: the dial address is a VPC endpoint's, which serves one Region: with WithFailover use WithDialFunc, which receives the endpoint")
	}
	if c.endpoints[0].ClusterID == "" {
		return fmt.Errorf("dsql: the dial address is a VPC endpoint's, and the cluster's ID cannot be inferred from the endpoint %q: use <cluster ID>.dsql.<region>.on.aws", c.endpoints[0].Host)
	}
	if cc.RuntimeParams == nil {
		cc.RuntimeParams = make(map[string]string)
	}
	if options := cc.RuntimeParams["options"]; !strings.Contains(options, params.ClusterID+"=") {
		cc.RuntimeParams["options"] = params.AppendOption(options, params.ClusterID, c.endpoints[0].ClusterID)
	}
	return nil
}
