package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCertificates(t *testing.T) {
	c := start(t, withRegion("ap-northeast-1"))
	privateLink := c.cfg.ID + ".dsql-fnh4.ap-northeast-1.on.aws"
	for name, domain := range map[string]string{
		c.Endpoint():                  "*.dsql.ap-northeast-1.on.aws",
		strings.ToUpper(c.Endpoint()): "*.dsql.ap-northeast-1.on.aws",
		privateLink:                   "*.dsql-fnh4.ap-northeast-1.on.aws",
	} {
		conn, err := dialTLS(t, c, func(cfg *tls.Config) { cfg.ServerName = name })
		require.NoError(t, err)
		require.Equal(t, []string{domain}, conn.ConnectionState().PeerCertificates[0].DNSNames)
	}
	// An unknown name gets the default Region's certificate.
	_, err := dialTLS(t, c, func(cfg *tls.Config) { cfg.ServerName = "vpce-1.dsql-fnh4.us-east-1.vpce.amazonaws.com" })
	var mismatch x509.HostnameError
	require.ErrorAs(t, err, &mismatch)
	require.Equal(t, []string{"*.dsql.us-east-1.on.aws"}, mismatch.Certificate.DNSNames)
	// Clients must trust the authority explicitly.
	_, err = dialTLS(t, c, func(cfg *tls.Config) { cfg.RootCAs = x509.NewCertPool() })
	require.ErrorAs(t, err, &x509.UnknownAuthorityError{})
}
