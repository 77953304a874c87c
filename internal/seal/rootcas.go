package seal

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/go-dsql/dsql/internal/redact"
)

// ReadRootCAs reads the PEM file that a URL's sslrootcert names. "system" is the default, nil, as
// in libpq.
func ReadRootCAs(file string) (*x509.CertPool, error) {
	if file == "system" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("dsql: the URL's sslrootcert must name a regular file") // reading a pipe could take forever
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, redact.Wrap("dsql: the URL's sslrootcert cannot be read", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("dsql: the URL's sslrootcert %s must be a PEM file of certificates, and has none", redact.Value(file))
	}
	return pool, nil
}

// Clone returns a copy of pool, which AddCert on the original does not change.
func Clone(pool *x509.CertPool) *x509.CertPool {
	if pool == nil {
		return nil
	}
	return pool.Clone()
}
