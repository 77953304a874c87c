package dsql

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"github.com/go-dsql/dsql/internal/credcache"
	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/params"
	"github.com/go-dsql/dsql/internal/seal"
)

// Option edits a Config. Options are applied in order; the last of a kind wins.
type Option func(*Config) error

// WithUser connects as role instead of admin. Its tokens are signed for the IAM action
// dsql:DbConnect. The role must exist with LOGIN and be granted to the IAM principal (AWS IAM GRANT
// role TO 'arn').
func WithUser(role string) Option {
	return func(c *Config) error {
		if role == "" {
			return errors.New("dsql: WithUser: the role must not be empty: name one, or leave the option out for admin")
		}
		c.User = role
		return nil
	}
}

// WithCredentials signs tokens with p's credentials. p is called once per credential lifetime, not
// once per connection, and again, at most once a minute, after DSQL answers "Signature expired". A
// call that takes over 30 seconds is abandoned, and the next connection calls p again.
//
// Pass a provider rather than an aws.CredentialsCache around it: in that cache, a call that hangs
// blocks every later call.
func WithCredentials(p aws.CredentialsProvider) Option {
	return func(c *Config) error {
		if seal.IsNil(p) {
			return errors.New("dsql: WithCredentials: the provider must not be nil: use one, or leave the option out for the SDK's default chain")
		}
		c.Credentials = credcache.Conceal(p)
		return nil
	}
}

// WithAWSConfig takes the credentials, and the region where it cannot be inferred from the
// endpoint, from a loaded AWS configuration. The rest of cfg is not read. The note on
// aws.CredentialsCache in [WithCredentials] applies to the credentials of every loaded
// configuration.
func WithAWSConfig(cfg aws.Config) Option {
	return func(c *Config) error {
		c.AWSConfig = &aws.Config{Region: cfg.Region}
		if !seal.IsNil(cfg.Credentials) {
			c.AWSConfig.Credentials = credcache.Conceal(cfg.Credentials)
		}
		return nil
	}
}

// WithProfile takes the credentials, and the region where it cannot be inferred from the endpoint,
// from a profile of the shared AWS files.
func WithProfile(name string) Option {
	return func(c *Config) error {
		if name == "" {
			return errors.New("dsql: WithProfile: the name must not be empty: name a profile, or leave the option out for AWS_PROFILE")
		}
		c.Profile = name
		return nil
	}
}

// WithTokenLifetime sets how long a token can open a connection: 1 second to 7 days, in whole
// seconds. The default is 15 minutes.
func WithTokenLifetime(d time.Duration) Option {
	return func(c *Config) error {
		if err := checkTokenLifetime(d); err != nil {
			return err
		}
		c.TokenLifetime = d
		return nil
	}
}

// WithRootCAs verifies the server's certificate against pool in place of the system's authorities.
// pool is copied when the connector is created. The name is verified as usual.
func WithRootCAs(pool *x509.CertPool) Option {
	return func(c *Config) error {
		if pool == nil {
			return errors.New("dsql: WithRootCAs: the pool must not be nil: use one, or leave the option out for the system's")
		}
		c.RootCAs = pool
		return nil
	}
}

// WithDialFunc opens TCP connections with f: through a proxy, a tunnel or a test's listener. f
// receives "tcp" and "HOST:5432", where HOST is the endpoint and nothing has been looked up. The
// name that is signed, sent as SNI and verified stays the endpoint, whatever connection f returns.
// Cancel requests are dialed the same way. It replaces an earlier [WithDialAddress], which is the
// option for a fixed address.
func WithDialFunc(f pgconn.DialFunc) Option {
	return func(c *Config) error {
		if f == nil {
			return errors.New("dsql: WithDialFunc: the function must not be nil: use one, or leave the option out for the default dialer")
		}
		c.DialFunc, c.DialAddress = f, ""
		return nil
	}
}

// WithDialAddress routes TCP connections to address in place of the endpoint's own addresses: a VPC
// endpoint's name, the near end of a tunnel, a bastion. address is a host or an IP address, with or
// without a port (5432). The name that is signed, sent as SNI and verified stays the endpoint. It
// replaces an earlier [WithDialFunc].
//
// For a VPC endpoint's name (*.vpce.amazonaws.com) the cluster is named in the startup options too,
// amzn-cluster-id=<cluster ID>. See docs/privatelink.md.
func WithDialAddress(address string) Option {
	return func(c *Config) error {
		if _, err := endpoint.ParseDialAddress(address); err != nil {
			return err
		}
		c.DialAddress, c.DialFunc = address, nil
		return nil
	}
}

// WithFailover adds a peer: the endpoint of a multi-Region cluster in another Region. endpoint and
// region are as in [NewPool]. Repeat it for further peers, in order of preference.
//
// An endpoint that fails rests: new connections do not try it for a while. They go to the first
// that does not rest. If looking it up, dialing, TLS or startup fails, or the server refuses with a
// limit (53300, 53400), a shutdown (57P0x), "server unavailable" (XX000), "waking up cluster" or
// any other code of class 08 except 08P01, the next endpoint is tried within the same attempt, with
// its own name verified and a token of its own. Access denied, and any other refusal of the request
// itself, ends the attempt. Each endpoint has the connect timeout, or its share of what the context
// has left if that is less.
//
// An endpoint that failed rests for a second, which doubles up to a minute as it fails again, less
// up to a quarter at random. When the rest is over, one connection tries it. Unless it refused with
// a limit, "server unavailable" or "waking up cluster", its idle connections are closed: at once in
// pools of [NewPool], before their next use in pools made from [Connector.PoolConfig] and in
// database/sql. When an endpoint before a peer is back, connections to the peer are closed within 5
// minutes, spread out, between two uses, and idle ones in the same way. [Connector.Endpoints]
// returns the states. See docs/multiregion.md.
func WithFailover(endpoint, region string) Option {
	return func(c *Config) error {
		p := Peer{endpoint, region}
		if _, err := parsePeer(p); err != nil {
			return err
		}
		c.Failover = append(c.Failover[:len(c.Failover):len(c.Failover)], p)
		return nil
	}
}

// WithNearestFirst prefers the endpoint, or the peer of [WithFailover], whose Region is in the
// environment variable AWS_REGION: one configuration serves every Region. The others keep their
// order. Without such an endpoint it does nothing.
func WithNearestFirst() Option {
	return func(c *Config) error {
		c.NearestFirst = true
		return nil
	}
}

// WithCredentialsTimeout sets how long one connection waits for credentials: 1 millisecond to 30
// seconds, default 10 seconds. Only a renewal waits; other connections use cached credentials.
// Construction always waits up to 30 seconds.
func WithCredentialsTimeout(d time.Duration) Option {
	return func(c *Config) error {
		if err := checkCredentialsTimeout(d); err != nil {
			return err
		}
		c.CredentialsTimeout = d
		return nil
	}
}

// WithLogger logs to l: at Debug the cluster with where its region came from, and each token
// (credentials' source and expiry) and connect (duration, outcome). A connect that fails is logged
// at Warn, with its explanation, and so is one without credentials: at most one of either kind a
// second, with the number of failures since the last (failures); the others are at Debug, as is a
// connect that its caller canceled. Never a secret. By default nothing is logged.
func WithLogger(l *slog.Logger) Option {
	return func(c *Config) error {
		if l == nil {
			return errors.New("dsql: WithLogger: the logger must not be nil: use one, or leave the option out to log nothing")
		}
		c.Logger = l
		return nil
	}
}

// DSQL's quota of new connections for a whole cluster:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
const (
	defaultConnectRate  = 100
	defaultConnectBurst = 1000
)

// WithConnectRate limits each [Connector], and so each pool, to perSecond new connections a second
// after a burst (of which a tenth is kept back, see below); further ones wait, up to a minute. The
// default is DSQL's own quota for the whole cluster, 100 and 1000: use a part of it where several
// processes share a cluster, or [WithConnectLimiter]. perSecond 0 turns the limit off, whatever
// burst is.
//
// A connect waits when it has credentials, before the endpoint is looked up; cancel requests do not
// wait. The cluster counts a connection when it arrives, a little later. A tenth of burst, at least
// one, is therefore kept back: the quota holds as long as connecting takes less than the time in
// which that tenth is refilled.
func WithConnectRate(perSecond float64, burst int) Option {
	return func(c *Config) error {
		if perSecond == 0 {
			c.ConnectLimiter = rate.NewLimiter(rate.Inf, 0)
			return nil
		}
		if !(perSecond > 0) || math.IsInf(perSecond, 0) || burst < 1 {
			return fmt.Errorf("dsql: a connect rate of %v a second with a burst of %d: the rate must be over 0 and the burst 1 or more; a rate of 0 turns the limit off", perSecond, burst)
		}
		c.ConnectLimiter = newLimiter(perSecond, burst)
		return nil
	}
}

func newLimiter(perSecond float64, burst int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), max(1, burst-max(1, burst/10)))
}

// WithConnectLimiter delays each new connection until l.Wait returns, in place of the rate: one
// limiter for several pools, or one that processes share. A *rate.Limiter of golang.org/x/time/rate
// is one. Wait must end with its context, which lasts at most a minute; its error fails the
// connection.
func WithConnectLimiter(l interface{ Wait(context.Context) error }) Option {
	return func(c *Config) error {
		if seal.IsNil(l) {
			return errors.New("dsql: WithConnectLimiter: the limiter must not be nil: use one, or WithConnectRate(0, 0) for no limit")
		}
		c.ConnectLimiter = l
		return nil
	}
}

// WithRuntimeParam sets a session parameter at startup, such as search_path or application_name.
// The last value for a name wins. Parameters that DSQL refuses, with which no connection would
// open, are refused by name.
func WithRuntimeParam(name, value string) Option {
	return func(c *Config) error {
		if err := params.CheckOne(name, value); err != nil {
			return err
		}
		m := maps.Clone(c.RuntimeParams)
		if m == nil {
			m = make(map[string]string)
		}
		m[name] = value
		c.RuntimeParams = m
		return nil
	}
}

// WithPoolConfig calls f to edit the configuration before the library checks it a last time: sizes,
// times, hooks, tracers, query modes, root CAs, where TCP connections are routed. Several run in
// order; an error ends construction.
//
// A BeforeConnect that f sets runs for each connection, before its token is made. Neither f nor
// that hook nor a tracer may change the host, the port, the database, the user, the password, the
// fallbacks, or how the server's certificate is verified: construction, or the connection, then
// fails with an error that names the field. Hooks that carry the connection's bytes (DialFunc,
// AfterNetConnect, BuildFrontend) are trusted with them: AfterNetConnect and BuildFrontend see the
// token. A LookupFunc's addresses are dialed in order, each in its share of the connect timeout.
//
// [Connect] uses what belongs to one connection (ConnConfig and BeforeConnect) and leaves the rest
// to pools.
func WithPoolConfig(f func(*pgxpool.Config) error) Option {
	return func(c *Config) error {
		if f == nil {
			return errors.New("dsql: WithPoolConfig: the function must not be nil: use one, or leave the option out")
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
