// Package explain says what an error of connecting to DSQL or of a statement means, and what to do
// about it.
package explain

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/sqlstate"
	"github.com/go-dsql/dsql/occ"
)

// Error returns a paragraph about err, or "" if it has nothing to add. It sees through any wrapping.
func Error(err error) string {
	if err == nil {
		return ""
	}
	var unknown *occ.CommitUnknownError
	if errors.As(err, &unknown) {
		return unknownCommit
	}
	var text string
	at := targetOf(err)
	sqlstate.Has(err, func(e sqlstate.Error) bool {
		text = explainState(e, at)
		return text != ""
	})
	if text != "" || errors.Is(err, context.Canceled) {
		return text
	}
	var own *advice
	if errors.As(err, &own) {
		return own.text
	}
	return explainNetwork(err, at)
}

// advice is an error that comes with its explanation.
type advice struct {
	error
	text string
}

func (a *advice) Unwrap() error { return a.error }

// Advise returns err with text as its explanation.
func Advise(text string, err error) error { return &advice{err, text} }

// Explanations of missing, expired and slow credentials, and of a limiter.
const (
	NoCredentials = "There are no AWS credentials to sign a token with. Run aws sts get-caller-identity where the program runs: the SDK looks at AWS_ACCESS_KEY_ID, AWS_PROFILE and the shared files, at SSO (aws sso login), and at the role of the container or the instance. WithProfile or WithCredentials name others; see docs/credentials.md."

	ExpiredCredentials = "The AWS credentials have ended or are about to, and their provider gave no newer ones. Log in again (aws sso login), or use a provider that renews: the role of the container or the instance, or stscreds; see docs/credentials.md."

	SlowCredentials = "The provider of the AWS credentials did not answer in time. In a container on EC2 the metadata's hop limit of 1 is the usual cause; an SSO or credential_process call that hangs is another. Run aws sts get-caller-identity where the program runs; WithCredentialsTimeout gives more time."

	NoTurn = "New connections waited for the limiter (WithConnectRate, WithConnectLimiter) for longer than the context or a minute. Open fewer connections at once, keep them in one pool, or raise the limit if the cluster's quota allows it."

	unknownDialAddress = "No address was found for {host}, where TCP connections are routed in place of the endpoint's addresses. Check the name given to WithDialAddress and the resolver that this machine uses; for a VPC endpoint's name see docs/privatelink.md."

	unknownCommit = "The outcome of the transaction is unknown: COMMIT was sent, and no answer came that settles it. Look up what it wrote, on a new connection, by an ID of the request, and run it again only if nothing is there."
)

// DialError is a failure to look up a name or to open a TCP connection. It knows the address, which
// may not be the endpoint's.
type DialError struct {
	Address string // the host, or host:port
	Lookup  bool   // the name was not found, or not in time
	Err     error
}

func (d *DialError) Error() string { return d.Err.Error() }
func (d *DialError) Unwrap() error { return d.Err }

// Timeout returns false: pgx replaces an error that times out, and the address with it.
func (d *DialError) Timeout() bool { return false }

// Temporary makes a DialError a net.Error.
func (d *DialError) Temporary() bool { return false }

func (d *DialError) isTimeout() bool {
	var timeout net.Error
	return errors.Is(d.Err, context.DeadlineExceeded) || errors.As(d.Err, &timeout) && timeout.Timeout()
}

// explainNetwork is for errors that the server has not sent.
func explainNetwork(err error, at target) string {
	if text := explainCertificate(err, at); text != "" {
		return text
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && !dns.IsTimeout {
		if at.isRouted {
			return at.fill(unknownDialAddress)
		}
		return at.fill("No address was found for {host}. Is it the endpoint that aws dsql get-cluster shows (<cluster ID>.dsql.<region>.on.aws), in the right region, of a cluster that is not deleted? In a VPC without a way to a public resolver, see docs/privatelink.md.")
	}
	var dial *DialError
	switch {
	case errors.As(err, &dial) && dial.isTimeout() && (dial.Lookup || dns != nil):
		return explainTimeout("hostname resolving error", at)
	case dial != nil && dial.isTimeout():
		return explainTimeout("dial error", at)
	case errors.As(err, new(*pgconn.ConnectError)) && (pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded)):
		return explainTimeout(err.Error(), at)
	}
	switch {
	case isAny(err, refusedErrnos):
		return at.fill("Nothing listens where TCP was sent. With WithDialAddress or WithDialFunc: is the tunnel up, and on that port? Otherwise a firewall on the way refuses port 5432.")
	case isAny(err, unreachableErrnos):
		return at.fill("This machine has no route to one of the addresses tried. DSQL's names have IPv4 and IPv6 addresses: where one family has no route, look at the error of the other, which is the cause. On a network with IPv6 only, or IPv4 only, give a route (NAT, DNS64, egress gateway) or use PrivateLink; see docs/privatelink.md.")
	case errors.As(err, new(*pgconn.ConnectError)):
		return ""
	case errors.Is(err, io.ErrUnexpectedEOF), isAny(err, resetErrnos), errors.Is(err, pgconn.ErrConnClosed):
		return "The connection was cut. DSQL closes every connection 60 minutes after it was opened, without a message; the pool's lifetime of 50 to 55 minutes stays under that, so a connection held for longer or one outside a pool meets it. What was not committed is gone; what was sent outside a transaction may have been applied."
	}
	return ""
}

func isAny(err error, errnos []error) bool {
	return slices.ContainsFunc(errnos, func(errno error) bool { return errors.Is(err, errno) })
}

func explainCertificate(err error, at target) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.SystemRootsError)):
		return at.fill("The server's certificate is not signed by an authority that this program trusts. An image without CA certificates (scratch, distroless) needs them: copy /etc/ssl/certs/ca-certificates.crt into it. On a network that inspects TLS, its own authority was presented: have {host} exempted. WithRootCAs trusts another authority.")
	case errors.As(err, &name):
		return at.fill("The server that answered is not {host}: its certificate is for other names. A proxy or a network that inspects TLS is in between, or WithDialAddress leads to another server; a VPC endpoint does so when it does not go by the name that TLS sends (see docs/privatelink.md).")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return at.fill("The server's certificate is out of its dates by this machine's clock. DSQL renews its certificates: check the clock (NTP) first.")
	}
	return ""
}

// timeouts tell the step by the words of pgx's error, the furthest first: it
// takes what the step itself said out of a timeout.
var timeouts = []struct{ words, text string }{
	{"failed to receive message", "DSQL did not answer the startup message or the token in time (authentication). TCP and TLS were fine: try again, and look at https://health.aws.amazon.com if it stays."},
	{"AfterNetConnect failed", slowTLS},
	{"tls error", slowTLS}, // before an SSLRequest was answered
	{"dial error", "TCP to {host} was not opened in time. A security group, network ACL or firewall that drops packets to port 5432 is the usual cause, or a subnet without a way out (NAT, internet gateway, PrivateLink)."},
	{"hostname resolving error", "The name {host} was not looked up in time (DNS). Check the resolver that this machine uses, and that it may be reached."},
}

const slowTLS = "TLS with {host} was not completed in time. TCP was fine: a proxy or a firewall in between that does not pass TLS on is the usual cause, or a tunnel whose far end is not port 5432 of DSQL."

func explainTimeout(step string, at target) string {
	for _, t := range timeouts {
		if strings.Contains(step, t.words) {
			return at.fill(t.text)
		}
	}
	return ""
}
