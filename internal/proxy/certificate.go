package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"
)

const (
	// authorityLife exceeds the life of a cluster whose data is kept.
	authorityLife = 10 * 365 * 24 * time.Hour
	// certificateLife exceeds the run of a process.
	certificateLife = 365 * 24 * time.Hour
)

// authority signs the server's certificates, one for each domain, created on first use.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]*tls.Certificate // by domain
}

// processAuthority returns the authority of all clusters of the process, so that a client that
// trusts one trusts them all.
var processAuthority = sync.OnceValues(newAuthority)

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("dsqltest: creating the certificate authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "dsqltest local CA"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("dsqltest: creating the certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("dsqltest: creating the certificate authority: %w", err)
	}
	return &authority{certificate: certificate, key: key, leaves: make(map[string]*tls.Certificate)}, nil
}

// getCertificate returns the certificate for the SNI hostname. An unknown name gets one too: the
// client is refused after TLS.
func (a *authority) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name, ok := parseHostname(hello.ServerName)
	if !ok {
		return a.leaf("dsql.us-east-1.on.aws")
	}
	return a.leaf(name.domain)
}

// leaf returns the certificate for all clusters of a domain, *.dsql.<region>.on.aws, as on AWS.
func (a *authority) leaf(domain string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if leaf, ok := a.leaves[domain]; ok {
		return leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("dsqltest: creating a certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), // unique among the runs of a kept authority
		Subject:      pkix.Name{CommonName: "*." + domain},
		DNSNames:     []string{"*." + domain},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("dsqltest: creating a certificate: %w", err)
	}
	leaf := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	a.leaves[domain] = leaf
	return leaf, nil
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// NewAuthority returns a certificate authority and its key, in PEM, for [Config.Authority].
func NewAuthority() ([]byte, error) {
	a, err := newAuthority()
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("dsqltest: %w", err)
	}
	return append(a.pem(), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})...), nil
}

// parseAuthority reads what NewAuthority returned.
func parseAuthority(text []byte) (*authority, error) {
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, errors.New("dsqltest: the certificate authority and its key cannot be read")
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("dsqltest: the key of the certificate authority is a %T and must be an ECDSA key", pair.PrivateKey)
	}
	return &authority{certificate: pair.Leaf, key: key, leaves: make(map[string]*tls.Certificate)}, nil
}
