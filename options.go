package dsql

import (
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

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/params"
)

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
// verified stays the endpoint. Cancel requests are dialled the same way. For a
// fixed address there is [WithDialAddress].
func WithDialFunc(f pgconn.DialFunc) Option {
	return func(c *Config) error {
		if f == nil {
			return errors.New("dsql: WithDialFunc was given nil: give a function, or leave the option out for the default dialer")
		}
		c.DialFunc = f
		return nil
	}
}

// WithDialAddress sends TCP to address in place of the endpoint's own addresses:
// a VPC endpoint's name, the near end of a tunnel, a bastion. address is a host
// or an IP address, with or without a port (5432). The name that is signed, sent
// as SNI and verified stays the endpoint. Not together with [WithDialFunc].
//
// For a VPC endpoint's name (*.vpce.amazonaws.com) the cluster is named in the
// startup options too, amzn-cluster-id=<cluster ID>. See docs/privatelink.md.
func WithDialAddress(address string) Option {
	return func(c *Config) error {
		if _, err := endpoint.ParseDialAddress(address); err != nil {
			return err
		}
		c.DialAddress = address
		return nil
	}
}

// WithCredentialsTimeout sets how long one connection waits for credentials: 1
// millisecond to 30 seconds, default 10 seconds. Only a renewal waits, the rest
// are answered from the cache. Construction is given 30 seconds whatever is set.
func WithCredentialsTimeout(d time.Duration) Option {
	return func(c *Config) error {
		if err := checkCredentialsTimeout(d); err != nil {
			return err
		}
		c.CredentialsTimeout = d
		return nil
	}
}

// WithLogger logs to l: at Debug the cluster with where its region came from, and
// each token (credentials' source and expiry) and connect (duration, outcome);
// at Warn a connect that the server refused or that had no credentials. Never a
// secret. By default nothing is logged.
//
// Each connection's Tracer is then one of this package that passes everything on
// to the caller's.
func WithLogger(l *slog.Logger) Option {
	return func(c *Config) error {
		if l == nil {
			return errors.New("dsql: WithLogger was given nil: give a logger, or leave the option out for silence")
		}
		c.Logger = l
		return nil
	}
}

// WithConnectRate keeps each [Connector], and so each pool, within a quota of
// perSecond new connections a second after burst at once; further ones wait for
// their turn. The default is DSQL's own quota for the whole cluster, 100 and
// 1000: give a part of it where several processes share a cluster. A tenth of
// burst, at least one, is kept back, and no more than that are on their way at a
// time, so that the quota is kept however late they arrive. One of
// [Connector.ConnConfig] has its turn when the configuration is made, and is not
// counted among those on their way.
// perSecond 0 turns it off, whatever burst is.
func WithConnectRate(perSecond float64, burst int) Option {
	return func(c *Config) error {
		if perSecond == 0 {
			c.ConnectRate, c.ConnectBurst = -1, 0
			return nil
		}
		if !(perSecond > 0) || math.IsInf(perSecond, 0) || burst < 1 {
			return fmt.Errorf("dsql: a connect rate of %v a second with a burst of %d: give a rate over 0 and a burst of 1 or more, or 0 to turn it off", perSecond, burst)
		}
		c.ConnectRate, c.ConnectBurst = perSecond, burst
		return nil
	}
}

// WithRuntimeParam sets a session parameter at startup, such as search_path or
// application_name. Given twice for one name, the later value counts. Parameters
// that DSQL refuses, with which no connection would open, are refused by name.
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
