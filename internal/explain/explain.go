// Package explain describes what an error of DSQL means and what to do about it: errors of
// connecting and of statements.
package explain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/errno"
	"github.com/go-dsql/dsql/internal/sqlstate"
	"github.com/go-dsql/dsql/occ"
)

// Error returns a paragraph about err, or "" if it has nothing to add. It unwraps err.
func Error(err error) string {
	if err == nil {
		return ""
	}
	var unknown *occ.CommitUnknownError
	if errors.As(err, &unknown) {
		return unknownCommit
	}
	if text := explainEndpoints(err); text != "" {
		return text
	}
	return explainOne(err, targetOf(err))
}

// explainOne explains an error of at.
func explainOne(err error, at target) string {
	var text string
	sqlstate.Has(err, func(e sqlstate.Error) bool {
		text = explainState(e, at)
		return text != ""
	})
	if text != "" || errors.Is(err, context.Canceled) {
		return text
	}
	var profile config.SharedConfigProfileNotExistError
	if errors.As(err, &profile) {
		return noProfile
	}
	var own *advice
	if errors.As(err, &own) {
		return own.text
	}
	return explainNetwork(err, at)
}

// advice is an error with its explanation.
type advice struct {
	error
	text string
}

func (a *advice) Unwrap() error { return a.error }

// Advise returns err with text as its explanation.
func Advise(text string, err error) error { return &advice{err, text} }

// Explanations of errors that this library returns before it connects.
const (
	NoCredentials = "There are no AWS credentials to sign a token with. Run aws sts get-caller-identity where the program runs: the SDK searches AWS_ACCESS_KEY_ID, AWS_PROFILE and the shared files, SSO (aws sso login), and the role of the container or the instance. Use WithProfile or WithCredentials for others; see https://github.com/go-dsql/dsql/blob/main/docs/credentials.md."

	ExpiredCredentials = "The AWS credentials have expired or are about to, and their provider returned no newer ones. Log in again (aws sso login), or use a provider that renews credentials: the role of the container or the instance, or stscreds; see https://github.com/go-dsql/dsql/blob/main/docs/credentials.md."

	SlowCredentials = "The provider of the AWS credentials did not respond in time. In a container on EC2 the usual cause is the metadata hop limit of 1; another is an SSO or credential_process call that hangs. Run aws sts get-caller-identity where the program runs; WithCredentialsTimeout allows more time."

	NoTurn = "The connection waited for the connect limiter (WithConnectRate, WithConnectLimiter), which keeps the cluster's clients within DSQL's quota of 100 new connections per second, for longer than the context or a minute. Keep connections in one pool and set MinConns to open them early; raise the rate if this process may use more of the quota; allow more time in the context."

	noProfile = "The profile that AWS_PROFILE or WithProfile names is not in the shared AWS files. Run aws configure list-profiles where the program runs and correct the name, or unset AWS_PROFILE; AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE select other files than ~/.aws/config and ~/.aws/credentials. A container or a Lambda function usually needs no profile."

	unknownDialAddress = "No address was found for {host}, where TCP connections are routed in place of the endpoint's addresses. Check the name given to WithDialAddress and the resolver that this machine uses; for a VPC endpoint's name see https://github.com/go-dsql/dsql/blob/main/docs/privatelink.md."

	unknownCommit = "The outcome of the transaction is unknown: COMMIT was sent, and no definite response arrived. Look up what it wrote, on a new connection and by a request ID, and run it again only if nothing was written."
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

// explainNetwork explains errors that no server sent.
func explainNetwork(err error, at target) string {
	if text := explainCertificate(err, at); text != "" {
		return text
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && !dns.IsTimeout {
		if at.isRouted {
			return at.fill(unknownDialAddress)
		}
		return at.fill("DNS has no address for {host}. Check that it is the endpoint that aws dsql get-cluster shows (<cluster ID>.dsql.<region>.on.aws), in the right region, and that the cluster was not deleted. In a VPC without access to a public resolver, see https://github.com/go-dsql/dsql/blob/main/docs/privatelink.md.")
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
	case errno.In(err, errno.Refused):
		return at.fill("Nothing listens on the dial address. With WithDialAddress or WithDialFunc, check that the tunnel is up and on that port; otherwise a firewall rejects port 5432.")
	case errno.In(err, errno.Unreachable):
		return at.fill("This machine has no route to one of the addresses tried. DSQL endpoints have IPv4 and IPv6 addresses: if one family has no route, the error of the other is the cause. On an IPv4-only or IPv6-only network, add a route (NAT, DNS64, egress gateway) or use PrivateLink; see https://github.com/go-dsql/dsql/blob/main/docs/privatelink.md.")
	case errors.As(err, new(*pgconn.ConnectError)):
		return explainHandshake(err, at)
	case errors.Is(err, io.ErrUnexpectedEOF), errno.In(err, errno.Reset), errors.Is(err, pgconn.ErrConnClosed):
		return "The connection was closed. DSQL closes every connection after 60 minutes without a message; a pool replaces its connections after 50 to 55 minutes, so this affects connections that are held longer or used outside a pool. Uncommitted changes are lost; a statement outside a transaction may have been applied."
	}
	return ""
}

func explainCertificate(err error, at target) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.SystemRootsError)):
		return at.fill("The server's certificate is not signed by a CA that this program trusts. An image without CA certificates (scratch, distroless) needs them: copy /etc/ssl/certs/ca-certificates.crt into it. On a network that inspects TLS, exempt {host} from inspection. WithRootCAs sets other root CAs.")
	case errors.As(err, &name):
		return at.fill("The server that responded is not {host}: its certificate is for other names. A proxy or a network that inspects TLS is in between, or WithDialAddress is another server, such as a VPC endpoint that ignores the SNI hostname (see https://github.com/go-dsql/dsql/blob/main/docs/privatelink.md).")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return at.fill("The server's certificate has expired or is not yet valid. DSQL renews its certificates: check this machine's clock (NTP) first.")
	}
	return ""
}

// explainHandshake explains a connect that failed after TCP succeeded.
func explainHandshake(err error, at target) string {
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &record):
		return at.fill("The server did not respond with TLS. An HTTP proxy or another service listens on the dial address: check WithDialAddress, WithDialFunc and the tunnel, and use one that passes TCP through to {host} port 5432.")
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls: "):
		return at.fill("The server rejected the TLS handshake. DSQL supports TLS 1.2 and 1.3 with ALPN postgresql: a proxy or a load balancer that terminates TLS is in between, or the connection is routed to another service. Configure it to pass TCP through to {host} port 5432.")
	case !isCut(err):
		return ""
	case strings.Contains(err.Error(), "failed to receive message"), strings.Contains(err.Error(), "startup message"):
		return "The connection was closed during authentication, without an error message. TCP and TLS succeeded: retry; if it persists, check for a proxy in between and https://health.aws.amazon.com."
	}
	return at.fill("The connection was closed during the TLS handshake. A firewall or a middlebox that allows TCP and blocks TLS on port 5432 is the usual cause, or a tunnel or load balancer without a reachable target: allow TLS to {host} port 5432, or use PrivateLink; see https://github.com/go-dsql/dsql/blob/main/docs/privatelink.md.")
}

// isCut reports whether the other side closed the connection.
func isCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errno.In(err, errno.Reset) || errors.Is(err, pgconn.ErrConnClosed)
}

// timeouts identifies the step by the words of pgx's error, which keeps nothing else of a timeout.
// The last step comes first.
var timeouts = []struct{ words, text string }{
	{"failed to receive message", "DSQL did not respond to the startup message or the token in time (authentication). TCP and TLS succeeded: retry, and check https://health.aws.amazon.com if it persists."},
	{"AfterNetConnect failed", slowTLS},
	{"tls error", slowTLS}, // before an SSLRequest was answered
	{"dial error", "The TCP connection to {host} timed out. The usual cause is a security group, network ACL or firewall that drops packets to port 5432, or a subnet without a route to DSQL (NAT, internet gateway, PrivateLink)."},
	{"hostname resolving error", "The lookup of {host} timed out (DNS). Check that the resolver of this machine is right and reachable."},
}

const slowTLS = "The TLS handshake with {host} timed out. TCP succeeded: the usual cause is a proxy or a firewall in between that does not pass TLS through, or a tunnel whose far end is not port 5432 of DSQL."

func explainTimeout(step string, at target) string {
	for _, t := range timeouts {
		if strings.Contains(step, t.words) {
			return at.fill(t.text)
		}
	}
	return ""
}
