package dsql

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-dsql/dsql/internal/connstring"
	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/params"
	"github.com/go-dsql/dsql/internal/redact"
	"github.com/go-dsql/dsql/internal/seal"
)

// ParseURL reads a Config from a URL, a host name or a cluster ID:
//
//	postgres://app@<cluster ID>.dsql.us-east-1.on.aws/postgres?search_path=app
//
// The scheme is postgres, postgresql or dsql. The role may be left out (admin), as may the
// database, which is postgres. There is no password: tokens are made for you. Parameters:
//
//   - region, profile: as in [Config]
//   - failover: the peers of a multi-Region cluster, endpoint[/region], separated by commas
//   - nearest_first: true, to prefer the endpoint of the Region in AWS_REGION, or false
//   - token_lifetime: a Go duration, such as 15m
//   - sslmode: require, verify-ca or verify-full, all of which mean verify-full
//   - sslrootcert: a PEM file of the certificate authorities to verify the server's certificate
//     against, or system
//   - hostaddr, port: the IP address to dial in place of the endpoint's, as in libpq, and its port
//     (5432)
//   - sslnegotiation: direct (the default) or postgres
//   - search_path, application_name, options: sent at startup
//   - connect_timeout: whole seconds for one connect, default 10
//   - pool_max_conns, pool_min_conns, pool_min_idle_conns
//   - pool_max_conn_lifetime, pool_max_conn_lifetime_jitter,
//     pool_max_conn_idle_time, pool_health_check_period: Go durations
//   - default_query_exec_mode: cache_statement (the default), cache_describe,
//     describe_exec, exec or simple_protocol
//
// Anything else is refused by name. Errors show no value that may be a secret.
func ParseURL(u string) (Config, error) {
	u = strings.TrimSpace(u)
	if !strings.Contains(u, "://") {
		e, err := endpoint.Parse(u)
		return Config{Endpoint: e.Name()}, err
	}
	parts, err := connstring.SplitURL(u)
	if err != nil {
		return Config{}, err
	}
	c := Config{User: parts.Role}
	if err := c.setEndpoint(parts.Host); err != nil {
		return Config{}, err
	}
	path := strings.TrimPrefix(parts.Path, "/")
	if name, err := url.PathUnescape(path); err != nil || name != "" && name != seal.Database {
		return Config{}, fmt.Errorf("dsql: the URL names the database %s: it is always %s", redact.Value(path), seal.Database)
	}
	if err := c.setParams(parts); err != nil {
		return Config{}, err
	}
	if err := c.validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c *Config) setParams(u connstring.URL) error {
	given, malformed := u.Params()
	var hostaddr, port string
	for _, p := range given {
		switch p.Name {
		case "hostaddr":
			hostaddr = p.Value
		case "port":
			port = p.Value
		}
		if err := c.setParam(p.Name, p.Value); err != nil {
			return err
		}
	}
	if malformed != nil {
		return malformed
	}
	var err error
	if c.DialAddress, err = endpoint.ParseHostAddr(hostaddr, port); err != nil {
		return err
	}
	return c.setEndpoint(c.Endpoint)
}

// setParam sets one parameter of a URL. Its value is checked here or by validate.
func (c *Config) setParam(name, value string) (err error) {
	_, isSetting := params.Settings[name]
	switch {
	case name == "search_path", name == "application_name", name == "options":
		return WithRuntimeParam(name, value)(c)
	case !isSetting && !slices.Contains(urlParams, name):
		return params.Unknown(name, urlParams)
	case value == "":
		return fmt.Errorf("dsql: the URL's %s is empty: set a value, or leave it out", name)
	case isSetting:
		if c.Settings == nil {
			c.Settings = make(map[string]string)
		}
		c.Settings[name] = value
	case name == "region":
		c.Region = value
	case name == "profile":
		c.Profile = value
	case name == "failover":
		c.Failover, err = parsePeers(value)
	case name == "nearest_first":
		if c.NearestFirst, err = strconv.ParseBool(value); err != nil {
			err = fmt.Errorf("dsql: the URL's nearest_first is %s and must be true or false", redact.Value(value))
		}
	case name == "sslmode":
		return checkSSLMode(value)
	case name == "sslrootcert":
		c.RootCAs, err = seal.ReadRootCAs(value)
	case name == "token_lifetime":
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("dsql: the URL's token_lifetime is %s and must be a Go duration, such as 15m", redact.Value(value))
		}
		return WithTokenLifetime(d)(c)
	}
	return err
}

// urlParams are the parameters of a URL other than settings.
var urlParams = []string{"application_name", "failover", "hostaddr", "nearest_first", "options", "port", "profile", "region", "search_path", "sslmode",
	"sslrootcert", "token_lifetime"}

func checkSSLMode(mode string) error {
	switch mode {
	case "require", "verify-ca", "verify-full":
		return nil
	case "disable", "allow", "prefer":
		return fmt.Errorf("dsql: the URL's sslmode is %s, which allows connections without TLS, and must be verify-full or left out", mode)
	}
	return fmt.Errorf("dsql: the URL's sslmode is %s and must be verify-full or left out", redact.Value(mode))
}

// URL returns a URL that [ParseURL] parses into the same Config, without a secret in it. A URL
// cannot hold Credentials, AWSConfig, RootCAs, DialFunc, a DialAddress that is not an IP address
// and a port, CredentialsTimeout, PoolConfig, ConnectLimiter and Logger: they are left out.
// RuntimeParams that have no parameter of their own become part of options. URL returns "" if the
// Endpoint is invalid.
func (c Config) URL() string {
	e, err := endpoint.Parse(c.Endpoint)
	if err != nil {
		return ""
	}
	query := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("region", c.Region)
	set("profile", c.Profile)
	set("failover", formatPeers(c.Failover))
	if c.NearestFirst {
		query.Set("nearest_first", "true")
	}
	if address, err := netip.ParseAddrPort(c.DialAddress); err == nil {
		query.Set("hostaddr", address.Addr().String())
		query.Set("port", strconv.Itoa(int(address.Port())))
	}
	if c.TokenLifetime != 0 {
		query.Set("token_lifetime", c.TokenLifetime.String())
	}
	for name, value := range c.Settings {
		query.Set(name, value)
	}
	for _, name := range []string{"search_path", "application_name", "options"} {
		if value, ok := c.RuntimeParams[name]; ok {
			query.Set(name, value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.RuntimeParams)) {
		if !query.Has(name) {
			query.Set("options", params.AppendOption(query.Get("options"), name, c.RuntimeParams[name]))
		}
	}
	u := url.URL{Scheme: "postgres", Host: e.Name(), Path: "/" + seal.Database}
	if c.User != "" {
		u.User = url.User(c.User)
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // a + is a space only here
	return u.String()
}

// FromEnv reads a Config from the environment: DSQL_ENDPOINT (required), DSQL_REGION, DSQL_USER,
// DSQL_PROFILE and DSQL_FAILOVER (as failover in [ParseURL]), which are the fields of [Config] of
// those names. The values are validated as [ParseURL] does; space around all but the role is
// removed. Other fields have no variable: set them with options, or use
// ParseURL(os.Getenv("DSQL_URL")). AWS_* variables are the SDK's, which reads them where
// credentials or the region come from it.
func FromEnv() (Config, error) {
	env := func(name string) string { return strings.TrimSpace(os.Getenv(name)) }
	// A role with space around it is refused, not guessed.
	c := Config{Endpoint: env("DSQL_ENDPOINT"), Region: env("DSQL_REGION"), User: os.Getenv("DSQL_USER"), Profile: env("DSQL_PROFILE")}
	if c.Endpoint == "" {
		return Config{}, errors.New("dsql: the environment variable DSQL_ENDPOINT is not set: " + endpoint.Want)
	}
	if err := c.setEndpoint(c.Endpoint); err != nil {
		return Config{}, err
	}
	if list := env("DSQL_FAILOVER"); list != "" {
		peers, err := parsePeers(list)
		if err != nil {
			return Config{}, fmt.Errorf("dsql: DSQL_FAILOVER: %w", err)
		}
		c.Failover = peers
	}
	if err := c.validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// setEndpoint sets the endpoint, which must agree with the region if there is one.
func (c *Config) setEndpoint(given string) error {
	e, err := endpoint.Parse(given)
	if err != nil {
		return err
	}
	c.Endpoint = e.Name()
	if c.Region != "" {
		_, err = e.In(c.Region)
	}
	return err
}
