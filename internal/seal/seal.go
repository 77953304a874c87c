// Package seal holds what no option, hook or tracer can change about a connection: it checks pgx's
// configuration, verifies the server and dials.
package seal

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/params"
)

const (
	// Database is the only one of a cluster.
	Database = "postgres"

	// ALPN is what PostgreSQL's direct TLS negotiates.
	ALPN = "postgresql"
	// SessionLimit is when DSQL closes a connection, even one in use:
	// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
	SessionLimit = 60 * time.Minute
)

// Seal guards against mistakes and stray settings, not against code of the same process that means
// harm.
type Seal struct {
	Host    string
	Peers   []string // hosts of ConnConfig.Fallbacks, in this order
	User    string
	RootCAs *x509.CertPool // never handed out; nil: the system's
}

// Check returns an error that names the first field of cc that breaks the seal, and when it did.
func (s Seal) Check(when string, cc *pgconn.Config) error {
	err := cmp.Or(
		s.checkTarget(cc),
		s.checkPeers(cc),
		checkValues(cc),
		s.checkTLSOf("ConnConfig.TLSConfig", s.Host, cc.TLSConfig, cc.SSLNegotiation),
	)
	if err != nil {
		return fmt.Errorf("dsql: %s: %w", when, err)
	}
	return params.Check(cc.RuntimeParams)
}

func (s Seal) checkTarget(cc *pgconn.Config) error {
	switch {
	case cc.Host != s.Host:
		return fmt.Errorf("ConnConfig.Host was changed to %q and must be the endpoint, %q; WithDialAddress changes where TCP connections are routed", cc.Host, s.Host)
	case cc.Port != endpoint.Port:
		return fmt.Errorf("ConnConfig.Port was changed to %d and must be %d; WithDialAddress changes where TCP connections are routed", cc.Port, endpoint.Port)
	case cc.Database != Database:
		return fmt.Errorf("ConnConfig.Database was changed to %q and must be %q, the only one", cc.Database, Database)
	case cc.User != s.User:
		return fmt.Errorf("ConnConfig.User was changed to %q and must be %q; WithUser sets it", cc.User, s.User)
	case cc.Password != "":
		return errors.New("ConnConfig.Password was set: tokens are made for you")
	}
	return nil
}

func (s Seal) checkPeers(cc *pgconn.Config) error {
	switch {
	case len(s.Peers) == 0 && len(cc.Fallbacks) != 0:
		return fmt.Errorf("ConnConfig.Fallbacks has %d entries and must be empty: a token is sent only to the host it was signed for; WithFailover adds peers of the cluster", len(cc.Fallbacks))
	case len(cc.Fallbacks) != len(s.Peers):
		return fmt.Errorf("ConnConfig.Fallbacks has %d entries and must have the %d of WithFailover", len(cc.Fallbacks), len(s.Peers))
	}
	for i, peer := range s.Peers {
		f := cc.Fallbacks[i]
		switch {
		case f == nil:
			return fmt.Errorf("ConnConfig.Fallbacks[%d] was set to nil and must be the peer %q", i, peer)
		case f.Host != peer:
			return fmt.Errorf("ConnConfig.Fallbacks[%d].Host was changed to %q and must be the peer, %q; WithFailover sets it", i, f.Host, peer)
		case f.Port != endpoint.Port:
			return fmt.Errorf("ConnConfig.Fallbacks[%d].Port was changed to %d and must be %d", i, f.Port, endpoint.Port)
		}
		if err := s.checkTLSOf(fmt.Sprintf("ConnConfig.Fallbacks[%d].TLSConfig", i), peer, f.TLSConfig, cc.SSLNegotiation); err != nil {
			return err
		}
	}
	return nil
}

// choices are the fields that must have one of a few values.
var choices = []struct {
	name  string
	of    func(*pgconn.Config) string
	valid []string
}{
	{"SSLNegotiation", func(cc *pgconn.Config) string { return cc.SSLNegotiation }, []string{"direct", "postgres"}},
	{"SSLCertMode", func(cc *pgconn.Config) string { return cc.SSLCertMode }, []string{"", "allow", "disable"}},
	{"MinProtocolVersion", func(cc *pgconn.Config) string { return cc.MinProtocolVersion }, []string{"", "3.0"}},
	{"MaxProtocolVersion", func(cc *pgconn.Config) string { return cc.MaxProtocolVersion }, []string{"", "3.0", "3.2", "latest"}},
	{"ChannelBinding", func(cc *pgconn.Config) string { return cc.ChannelBinding }, []string{"", "disable", "prefer"}},
	{"RequireAuth", func(cc *pgconn.Config) string { return cc.RequireAuth }, []string{"", "password"}},
}

// checkValues refuses what would panic or fail in pgx.
func checkValues(cc *pgconn.Config) error {
	switch {
	case cc.ConnectTimeout <= 0:
		return fmt.Errorf("ConnConfig.ConnectTimeout is %v and must be over 0", cc.ConnectTimeout)
	case cc.BuildFrontend == nil:
		return errors.New("ConnConfig.BuildFrontend was set to nil and must be a function")
	case cc.BuildContextWatcherHandler == nil:
		return errors.New("ConnConfig.BuildContextWatcherHandler was set to nil and must be a function")
	}
	for _, field := range choices {
		if value := field.of(cc); !slices.Contains(field.valid, value) {
			return fmt.Errorf("ConnConfig.%s was changed to %q and must be one of %q", field.name, value, field.valid)
		}
	}
	return nil
}

// checkTLSOf checks t, the field by this name, for connections to host.
func (s Seal) checkTLSOf(field, host string, t *tls.Config, negotiation string) error {
	switch {
	case t == nil:
		return errors.New(field + " was set to nil: TLS cannot be turned off")
	case t.InsecureSkipVerify:
		return errors.New(field + ".InsecureSkipVerify was set and must be false; WithRootCAs sets the authorities to trust")
	case t.ServerName != host:
		return fmt.Errorf("%s.ServerName was changed to %q and must be the endpoint, %q", field, t.ServerName, host)
	case !t.RootCAs.Equal(s.RootCAs):
		return errors.New(field + ".RootCAs was changed; WithRootCAs sets it, once for all connections")
	case t.Time != nil:
		return errors.New(field + ".Time was set and must be nil: certificates are verified by the system's clock")
	case t.KeyLogWriter != nil:
		return errors.New(field + ".KeyLogWriter was set and must be nil: its keys decrypt the token")
	case t.MinVersion != 0 && t.MinVersion < tls.VersionTLS12, t.MaxVersion != 0 && t.MaxVersion < tls.VersionTLS12:
		return errors.New(field + " allows less than TLS 1.2, which DSQL refuses")
	case slices.ContainsFunc(t.CipherSuites, isInsecure):
		return errors.New(field + ".CipherSuites has a suite that crypto/tls calls insecure")
	case negotiation == "direct" && !slices.Contains(t.NextProtos, ALPN):
		return fmt.Errorf("%s.NextProtos was changed to %q and must contain %q for direct TLS", field, t.NextProtos, ALPN)
	}
	return nil
}

var insecure = tls.InsecureCipherSuites()

func isInsecure(suite uint16) bool {
	return slices.ContainsFunc(insecure, func(s *tls.CipherSuite) bool { return s.ID == suite })
}

// Handshake completes TLS and verifies that the server is host. It verifies the certificate
// again: a resumed session may have been verified with other root CAs, and those of the TLS
// configuration may have been added to since they were checked.
func (s Seal) Handshake(ctx context.Context, cc *pgconn.Config, host string, conn net.Conn) error {
	tlsConn, ok := conn.(*tls.Conn)
	if !ok {
		return errors.New("dsql: while connecting: the connection is not encrypted with TLS")
	}
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("dsql: TLS with %s: %w", host, err)
	}
	state := tlsConn.ConnectionState()
	if got := state.NegotiatedProtocol; got != ALPN && (got != "" || cc.SSLNegotiation == "direct") {
		return fmt.Errorf("dsql: the server at %s negotiated the ALPN protocol %q and not %q: it is not DSQL, or a proxy in between terminates TLS", host, got, ALPN)
	}
	if isInsecure(state.CipherSuite) {
		return fmt.Errorf("dsql: TLS with %s: %s is insecure", host, tls.CipherSuiteName(state.CipherSuite))
	}
	if state.ServerName != host || len(state.PeerCertificates) == 0 {
		return fmt.Errorf("dsql: TLS with %s: the server has no certificate for it", host)
	}
	var intermediates *x509.CertPool
	if len(state.PeerCertificates) > 1 {
		intermediates = x509.NewCertPool()
	}
	for _, cert := range state.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: s.RootCAs, Intermediates: intermediates})
	if err != nil {
		return fmt.Errorf("dsql: TLS with %s: %w", host, err)
	}
	return nil
}
