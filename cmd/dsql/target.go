package main

import (
	"cmp"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/connstring"
)

// target is the cluster that the flags of a command name.
type target struct {
	region, user, profile, dialAddress string
	rootCert                           string        // after config also that of the URL or the environment
	expires, lifetime                  time.Duration // of the token: the flag, and what neither it nor the URL says
	preset                             *dsql.Config  // in place of an endpoint and the environment
}

func (t *target) define(flags *flag.FlagSet) {
	text(flags, &t.region, "region", "AWS `REGION` of the cluster; by default inferred from ENDPOINT")
	text(flags, &t.user, "user", "database `ROLE`; by default admin")
	text(flags, &t.profile, "profile", "`NAME` of a profile of the shared AWS files")
}

// defineRoute adds the flags of commands that connect.
func (t *target) defineRoute(flags *flag.FlagSet) {
	text(flags, &t.dialAddress, "dial-address", "`HOST[:PORT]` to connect to in place of the endpoint's own addresses: a tunnel, a VPC endpoint")
	text(flags, &t.rootCert, "root-cert", "`FILE` of certificate authorities to trust in place of the system's")
}

func (t *target) defineExpires(flags *flag.FlagSet, lifetime time.Duration) {
	t.lifetime = lifetime
	flags.DurationVar(&t.expires, "expires", 0, fmt.Sprintf("`LIFETIME` of the token, 1s to 168h; by default token_lifetime of the URL, or %v; expiring credentials end it sooner", lifetime))
}

// config returns the configuration for an endpoint, or that of the environment if there is none. It
// completes t.rootCert, for clients that take a file.
func (t *target) config(endpoint string) (dsql.Config, error) {
	cfg, rootCert, err := t.base(endpoint)
	if err != nil {
		return cfg, err
	}
	cfg.Region = cmp.Or(t.region, cfg.Region)
	cfg.User = cmp.Or(t.user, cfg.User)
	cfg.Profile = cmp.Or(t.profile, cfg.Profile)
	cfg.DialAddress = cmp.Or(t.dialAddress, cfg.DialAddress)
	cfg.TokenLifetime = cmp.Or(t.expires, cfg.TokenLifetime, t.lifetime)
	if t.rootCert = cmp.Or(t.rootCert, rootCert); t.rootCert != "" {
		cfg.RootCAs, err = readRoots(t.rootCert)
	}
	return cfg, err
}

// base returns the configuration without the flags, and the file of its certificate authorities if
// it names one.
func (t *target) base(endpoint string) (cfg dsql.Config, rootCert string, err error) {
	switch {
	case t.preset != nil:
		return *t.preset, "", nil
	case endpoint != "":
		cfg, err = dsql.ParseURL(endpoint)
		return cfg, rootCertOf(endpoint), err
	}
	if os.Getenv("DSQL_ENDPOINT") == "" {
		return dsql.Config{}, "", usageError("no ENDPOINT: name the cluster, or set DSQL_ENDPOINT")
	}
	cfg, err = dsql.FromEnv()
	cfg.DialAddress = os.Getenv("DSQL_DIAL_ADDRESS")
	return cfg, os.Getenv("DSQL_ROOT_CERT"), err
}

// rootCertOf returns the file that sslrootcert names in a valid URL, or "" for the system's.
func rootCertOf(given string) string {
	u, _ := connstring.SplitURL(strings.TrimSpace(given))
	params, _ := u.Params()
	for _, p := range params {
		if p.Name == "sslrootcert" && p.Value != "system" {
			return p.Value
		}
	}
	return ""
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("dsql: reading the certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("dsql: %s has no certificate: use a file of PEM certificates", file)
	}
	return pool, nil
}

// systemRoots are where systems keep their certificate authorities in one file.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine, Arch
	"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, Amazon Linux
	"/etc/ssl/ca-bundle.pem",             // openSUSE
	"/etc/ssl/cert.pem",                  // macOS, FreeBSD
}

// rootFile returns a file of certificate authorities for clients that take one, or "".
func (t *target) rootFile() string {
	if t.rootCert != "" {
		return t.rootCert
	}
	for _, file := range append([]string{os.Getenv("SSL_CERT_FILE")}, systemRoots...) {
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file
		}
	}
	return ""
}
