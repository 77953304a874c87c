package dsql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

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
