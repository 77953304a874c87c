package dsql

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/params"
	"github.com/go-dsql/dsql/internal/redact"
)

const (
	port     = endpoint.Port
	database = "postgres"
	alpn     = "postgresql" // what PostgreSQL's direct TLS negotiates

	// sessionLimit is when DSQL closes a connection, even one in use:
	// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
	sessionLimit = 60 * time.Minute
)

// everyKey names every key that pgx would otherwise take from PG* variables, service files or the
// home directory, and holds the defaults. The passwords are not among them, so that ConnString shows
// none; what pgx finds for them is discarded.
const everyKey = "host=%s port=5432 dbname=postgres user=%s passfile=''" +
	" sslmode=verify-full sslnegotiation=direct sslrootcert='' sslcert='' sslkey='' sslcertmode=allow sslsni=1" +
	" connect_timeout=10 target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0" +
	" channel_binding=prefer require_auth='' krbsrvname='' krbspn=''" +
	" default_query_exec_mode=cache_statement statement_cache_capacity=512 description_cache_capacity=512" +
	" pool_max_conns=%d pool_min_conns=0 pool_min_idle_conns=0" +
	" pool_max_conn_lifetime=50m pool_max_conn_lifetime_jitter=5m pool_max_conn_idle_time=10m" +
	" pool_health_check_period=1m pool_ping_timeout=5s"

// Connector is a validated and resolved Config, from which every kind of client is made. It is safe
// for concurrent use and need not be closed.
type Connector struct {
	endpoint           endpoint.Endpoint
	user               string
	tokenLifetime      time.Duration
	credentials        *credentialsCache
	credentialsTimeout time.Duration
	limiter            interface{ Wait(context.Context) error }
	logger             *slog.Logger // nil: nothing is logged
	dialAddress        string       // host:port; empty: the endpoint's own addresses
	seal               seal
	pool               *pgxpool.Config // never handed out, only copies of it
	// userBeforeConnect is the caller's own, run by ours.
	userBeforeConnect func(context.Context, *pgx.ConnConfig) error
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
	if _, err := c.makeToken(ctx, constructTimeout); err != nil {
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
		if awsConfig.Region == "" && cfg.AWSConfig != nil {
			return fmt.Errorf("dsql: the cluster ID %q needs a region: set one, or use the endpoint %s.dsql.<region>.on.aws; the aws.Config has none", given.ClusterID, given.ClusterID)
		}
		if c.endpoint, err = given.In(awsConfig.Region); err != nil {
			return err
		}
	}
	if provider == nil {
		provider = awsConfig.Credentials
	}
	if isNil(provider) {
		return explain.Advise(explain.NoCredentials, errors.New("dsql: no AWS credentials: the aws.Config has no credentials provider"))
	}
	c.credentials = &credentialsCache{provider: concealed(provider)}
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

// NewPool returns a pool, as the function [NewPool] does.
func (c *Connector) NewPool(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := pgxpool.NewWithConfig(ctx, c.PoolConfig())
	if err != nil {
		return nil, fmt.Errorf("dsql: %w", err)
	}
	return pool, nil
}

// PoolConfig returns a configuration for pgxpool.NewWithConfig, with the seal and a BeforeConnect
// that makes each connection's token. Each call returns a copy, which the caller may change. A
// BeforeConnect of the caller's must call the one that is there last; without it there is no token
// and every connection fails. Prefer [WithPoolConfig].
func (c *Connector) PoolConfig() *pgxpool.Config {
	p := c.pool.Copy()
	p.ConnConfig.TLSConfig.RootCAs = cloneCAs(c.seal.rootCAs)
	return p
}

// ConnConfig returns a configuration for pgx.ConnectConfig with a fresh token in Password: use it for
// one connection, now. It waits for [WithConnectRate] and fails where [Connector.Token] does. Each
// call returns a copy. Its Tracer checks the connection and must not be replaced: set yours with
// [WithPoolConfig].
func (c *Connector) ConnConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	cc := c.PoolConfig().ConnConfig
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
	return fmt.Sprintf("dsql.Connector{%s at %s}", c.user, c.endpoint.Host)
}

// GoString returns what String does, for %#v.
func (c *Connector) GoString() string { return c.String() }

// buildPoolConfig builds the configuration that all clients of c share: the defaults, the caller's
// changes, and the seal over both.
func (c *Connector) buildPoolConfig(cfg Config) error {
	p, err := c.parsePoolConfig(cfg.Settings)
	if err != nil {
		return err
	}
	cc := p.ConnConfig
	cc.TLSConfig = &tls.Config{
		ServerName:         c.endpoint.Host,
		RootCAs:            cloneCAs(cfg.RootCAs),
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{alpn},
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
	if err := checkPool(p); err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	c.seal = seal{host: c.endpoint.Host, user: c.user}
	if t := p.ConnConfig.TLSConfig; t != nil {
		c.seal.rootCAs = cloneCAs(t.RootCAs)
	}
	if err := c.seal.check("WithPoolConfig", &p.ConnConfig.Config); err != nil {
		return err
	}
	c.pool = p.Copy()
	c.pool.ConnConfig.TLSConfig.RootCAs = cloneCAs(c.seal.rootCAs)
	c.userBeforeConnect = p.BeforeConnect
	c.pool.BeforeConnect = c.beforeConnect
	c.pool.ConnConfig.OnPgError = c.withHint(p.ConnConfig.OnPgError)
	if endpoint.IsVPCEndpoint(c.dialAddress) {
		return c.nameCluster(c.pool.ConnConfig)
	}
	return nil
}

// parsePoolConfig parses a connection string that names every key, edited by settings.
func (c *Connector) parsePoolConfig(settings map[string]string) (*pgxpool.Config, error) {
	service := os.Getenv("PGSERVICE")
	if service != "" {
		home, _ := os.UserHomeDir()
		file := cmp.Or(os.Getenv("PGSERVICEFILE"), filepath.Join(home, ".pg_service.conf"))
		if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() && file != os.DevNull {
			// Reading a pipe could take forever.
			return nil, fmt.Errorf("dsql: the service file %s of the environment variables PGSERVICE and PGSERVICEFILE must be a regular file: unset PGSERVICE", file)
		}
	}
	quoted := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(c.user) + "'"
	keys := fmt.Sprintf(everyKey, c.endpoint.Host, quoted, max(4, runtime.NumCPU())) // pgx's own default size
	for name, value := range settings {                                              // the last value wins
		keys += " " + name + "=" + value
	}
	p, err := pgxpool.ParseConfig(keys)
	switch {
	case err != nil && service != "":
		return nil, redact.Wrap(fmt.Sprintf("dsql: the environment variable PGSERVICE is %q, which pgx cannot read: unset PGSERVICE", service), err)
	case err != nil:
		return nil, redact.Wrap("dsql: pgx refused the configuration", err)
	}
	p.ConnConfig.Password = ""
	return p, nil
}

// cloneCAs returns a copy, which AddCert on the original does not change.
func cloneCAs(pool *x509.CertPool) *x509.CertPool {
	if pool == nil {
		return nil
	}
	return pool.Clone()
}

// setDial sets where TCP connections are routed. The names are looked up while dialing, within the
// connect timeout.
func (c *Connector) setDial(cc *pgx.ConnConfig, cfg Config) (err error) {
	cc.LookupFunc, cc.DialFunc = asIs, (&net.Dialer{}).DialContext
	f := cfg.DialFunc
	if cfg.DialAddress != "" {
		if c.dialAddress, err = endpoint.ParseDialAddress(cfg.DialAddress); err != nil {
			return err
		}
		f = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, c.dialAddress)
		}
	}
	if f != nil { // for cancel requests too, which pgx dials by the address of the connection
		cc.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return f(ctx, "tcp", hostPort(c.endpoint.Host))
		}
	}
	return nil
}

// nameCluster adds the option by which a VPC endpoint finds the cluster, unless the caller has.
func (c *Connector) nameCluster(cc *pgx.ConnConfig) error {
	if c.endpoint.ClusterID == "" {
		return fmt.Errorf("dsql: the dial address is a VPC endpoint's, and the cluster's ID cannot be inferred from the endpoint %q: use <cluster ID>.dsql.<region>.on.aws", c.endpoint.Host)
	}
	if cc.RuntimeParams == nil {
		cc.RuntimeParams = make(map[string]string)
	}
	if options := cc.RuntimeParams["options"]; !strings.Contains(options, params.ClusterID+"=") {
		cc.RuntimeParams["options"] = params.AppendOption(options, params.ClusterID, c.endpoint.ClusterID)
	}
	return nil
}

// withHint adds the first sentence of the explanation to a refusal that has no hint, for those who
// see a pool's error without [Explain]. pgx replaces errors that do not end the connection after the
// handler, so only refusals and other fatal errors can have one.
func (c *Connector) withHint(next pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		if e.Hint == "" {
			e.Hint = explain.Hint(e, c.user, c.endpoint.Host, c.endpoint.Region)
		}
		return next == nil || next(conn, e)
	}
}
