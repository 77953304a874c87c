package dsql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	port     = 5432
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
	cc.Host, cc.User = c.endpoint.host, c.user
	cc.TLSConfig = &tls.Config{
		ServerName:         c.endpoint.host,
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
	c.seal = seal{host: c.endpoint.host, user: c.user}
	if p.ConnConfig.TLSConfig != nil {
		c.seal.rootCAs = p.ConnConfig.TLSConfig.RootCAs
	}
	if err := c.seal.check(&p.ConnConfig.Config); err != nil {
		return fmt.Errorf("dsql: WithPoolConfig: %w", err)
	}
	if err := checkRuntimeParams(p.ConnConfig.RuntimeParams); err != nil {
		return err
	}
	c.pool = p.Copy()
	c.userBeforeConnect = p.BeforeConnect
	c.pool.BeforeConnect = c.beforeConnect
	c.pool.ConnConfig.OnPgError = c.withHint(p.ConnConfig.OnPgError)
	if isVPCEndpoint(address) {
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
		if address, err = parseDialAddress(cfg.DialAddress); err != nil {
			return "", err
		}
		dialByName(cc, dialAddress(address))
	}
	return address, nil
}

// nameCluster adds the option by which a VPC endpoint finds the cluster, unless
// the caller has.
func (c *Connector) nameCluster(cc *pgx.ConnConfig) error {
	if c.endpoint.clusterID == "" {
		return fmt.Errorf("dsql: the dial address is a VPC endpoint's, and the endpoint %q does not tell the cluster's ID: give <cluster ID>.dsql.<region>.on.aws", c.endpoint.host)
	}
	if cc.RuntimeParams == nil {
		cc.RuntimeParams = make(map[string]string)
	}
	if options := cc.RuntimeParams["options"]; !strings.Contains(options, clusterOption+"=") {
		cc.RuntimeParams["options"] = withOption(options, clusterOption, c.endpoint.clusterID)
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
	giveBack, err := c.connects.place(ctx)
	if err != nil {
		return err
	}
	if err := c.prepare(ctx, cc); err != nil {
		giveBack()
		return err
	}
	giveBackAfterConnect(cc, giveBack)
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
	if err := checkRuntimeParams(cc.RuntimeParams); err != nil {
		return err
	}
	if err := c.connects.turn(ctx); err != nil {
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

// seal is what holds for every connection when it is dialled and when the token
// is sent, whatever options and hooks do.
type seal struct {
	host    string
	user    string
	rootCAs *x509.CertPool // in force when construction ended
}

// check names the first field of cc that breaks the seal.
func (s seal) check(cc *pgconn.Config) error {
	switch {
	case cc.Host != s.host:
		return fmt.Errorf("ConnConfig.Host was changed to %q: it is the endpoint, %q; WithDialAddress changes where TCP goes", cc.Host, s.host)
	case cc.Port != port:
		return fmt.Errorf("ConnConfig.Port was changed to %d: it is %d; WithDialAddress changes where TCP goes", cc.Port, port)
	case cc.Database != database:
		return fmt.Errorf("ConnConfig.Database was changed to %q: it is %q, the only one", cc.Database, database)
	case cc.User != s.user:
		return fmt.Errorf("ConnConfig.User was changed to %q: it is %q; WithUser sets it", cc.User, s.user)
	case len(cc.Fallbacks) != 0:
		return fmt.Errorf("ConnConfig.Fallbacks has %d entries: it is empty, for a token goes only to the host it was signed for", len(cc.Fallbacks))
	}
	return s.checkTLS(cc)
}

func (s seal) checkTLS(cc *pgconn.Config) error {
	t := cc.TLSConfig
	switch {
	case t == nil:
		return errors.New("ConnConfig.TLSConfig was set to nil: TLS cannot be turned off")
	case t.InsecureSkipVerify:
		return errors.New("ConnConfig.TLSConfig.InsecureSkipVerify was set: the certificate is always verified; WithRootCAs sets whom to trust")
	case t.ServerName != s.host:
		return fmt.Errorf("ConnConfig.TLSConfig.ServerName was changed to %q: it is the endpoint, %q", t.ServerName, s.host)
	case t.RootCAs != s.rootCAs:
		return errors.New("ConnConfig.TLSConfig.RootCAs was changed: WithRootCAs sets it, once for all connections")
	case t.Time != nil:
		return errors.New("ConnConfig.TLSConfig.Time was set: certificates are verified by the clock")
	case t.MinVersion != 0 && t.MinVersion < tls.VersionTLS12, t.MaxVersion != 0 && t.MaxVersion < tls.VersionTLS12:
		return errors.New("ConnConfig.TLSConfig allows less than TLS 1.2, which DSQL refuses")
	case cc.SSLNegotiation == "direct" && !slices.Contains(t.NextProtos, alpn):
		return fmt.Errorf("ConnConfig.TLSConfig.NextProtos was changed to %q: direct TLS needs %q in it", t.NextProtos, alpn)
	}
	return nil
}

// guard stands between the TLS handshake and the first byte of PostgreSQL's
// protocol. It runs the caller's hook, if there is one.
func (s seal) guard(hook func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error)) func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error) {
	return func(ctx context.Context, cc *pgconn.Config, conn net.Conn) (net.Conn, error) {
		if err := s.check(cc); err != nil {
			return conn, fmt.Errorf("dsql: while connecting: %w", err)
		}
		if err := s.handshake(ctx, conn); err != nil {
			return conn, err
		}
		if hook == nil {
			return conn, nil
		}
		wrapped, err := hook(ctx, cc, conn)
		if wrapped == nil {
			wrapped = conn // pgx closes what is returned
		}
		if err == nil {
			if err = s.check(cc); err != nil {
				err = fmt.Errorf("dsql: after AfterNetConnect: %w", err)
			}
		}
		return wrapped, err
	}
}

// handshake completes TLS and sees that the server is the endpoint.
func (s seal) handshake(ctx context.Context, conn net.Conn) error {
	tlsConn, ok := conn.(*tls.Conn)
	if !ok {
		return errors.New("dsql: while connecting: the connection has no TLS")
	}
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("dsql: TLS with %s: %w", s.host, err)
	}
	state := tlsConn.ConnectionState()
	if state.ServerName != s.host || len(state.VerifiedChains) == 0 {
		return fmt.Errorf("dsql: the server's certificate was not verified for %s", s.host)
	}
	return nil
}
