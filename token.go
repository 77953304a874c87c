package dsql

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/go-dsql/dsql/internal/credcache"
	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/redact"
)

const (
	// constructTimeout bounds loading the AWS configuration and the first credentials.
	constructTimeout = 30 * time.Second
	// defaultCredentialsTimeout bounds the credentials of one connection: pgxpool passes
	// BeforeConnect a context without a deadline, and the slot in the pool stays occupied.
	defaultCredentialsTimeout = 10 * time.Second
)

// Token returns a token: the password of one connection. It signs locally, in about ten
// microseconds, with cached credentials; tokens themselves are not cached. Waiting for credentials
// is limited to 10 seconds ([WithCredentialsTimeout]), or less if ctx ends sooner. Missing, expired
// or nearly expired credentials (5 seconds) are an error that wraps the provider's, whose text it
// leaves out because it may quote a secret.
//
// A token is a secret until it expires ([Config].TokenLifetime). Pools and connections of this
// package make their own.
func (c *Connector) Token(ctx context.Context) (string, error) {
	return c.makeToken(ctx, c.credentialsTimeout)
}

func (c *Connector) makeToken(ctx context.Context, timeout time.Duration) (string, error) {
	return c.signFor(ctx, c.endpoint, timeout)
}

// signFor returns a token for one endpoint of the cluster.
func (c *Connector) signFor(ctx context.Context, e endpoint.Endpoint, timeout time.Duration) (string, error) {
	creds, err := c.retrieve(ctx, timeout)
	if err != nil {
		return "", err
	}
	c.logToken(ctx, e.Host, creds)
	now, lifetime := time.Now().UTC(), c.tokenLifetime
	if creds.CanExpire {
		lifetime = min(lifetime, creds.Expires.Sub(now))
	}
	action := "DbConnect"
	if c.user == adminRole {
		action = "DbConnectAdmin"
	}
	query := "Action=" + action + "&X-Amz-Expires=" + strconv.Itoa(int(lifetime.Seconds()))
	request := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: e.Host, RawQuery: query}}
	signed, _, err := c.signerFor(creds).PresignHTTP(ctx, creds, request, emptyPayload, "dsql", e.Region, now)
	if err != nil {
		return "", redact.Wrap("dsql: signing the token failed", err)
	}
	return strings.TrimPrefix(signed, "https://"), nil
}

// emptyPayload is the SHA-256 hash of the request's body, which is empty.
const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// signer is the SDK's, which keeps the keys that it derives by access key and Region alone: a corrected
// secret key needs another.
type signer struct {
	*v4.Signer
	accessKey, secretKey string
}

// asIs leaves out what a request without headers and path does not need.
func asIs(o *v4.SignerOptions) { o.DisableHeaderHoisting, o.DisableURIPathEscaping = true, true }

// signerFor returns the signer of creds.
func (c *Connector) signerFor(creds aws.Credentials) *v4.Signer {
	s := c.signer.Load()
	if s == nil || s.accessKey != creds.AccessKeyID || s.secretKey != creds.SecretAccessKey {
		s = &signer{v4.NewSigner(asIs), creds.AccessKeyID, creds.SecretAccessKey}
		c.signer.Store(s)
	}
	return s.Signer
}

// retrieve returns credentials that can open a connection now.
func (c *Connector) retrieve(ctx context.Context, timeout time.Duration) (aws.Credentials, error) {
	creds, err := c.credentials.Retrieve(ctx, timeout)
	if err = checkCredentials(creds, err, timeout); err != nil {
		c.logFailure(ctx, c.endpoint.Host, c.failedTokens, "dsql: no token", err)
		return aws.Credentials{}, err
	}
	return creds, nil
}

func checkCredentials(creds aws.Credentials, err error, timeout time.Duration) error {
	switch {
	case errors.Is(err, context.Canceled):
		return redact.Wrap("dsql: getting AWS credentials was interrupted", err)
	case errors.Is(err, context.DeadlineExceeded):
		return explain.Advise(explain.SlowCredentials, redact.Wrap(fmt.Sprintf("dsql: getting AWS credentials timed out after at most %v", timeout), err))
	case err != nil:
		return explain.Advise(explain.NoCredentials, redact.Wrap("dsql: no AWS credentials", err))
	case !creds.HasKeys():
		return explain.Advise(explain.NoCredentials, fmt.Errorf("dsql: no AWS credentials: the provider %q returned empty keys", creds.Source))
	case credcache.ExpiresSoon(creds):
		return explain.Advise(explain.ExpiredCredentials, fmt.Errorf("dsql: the AWS credentials of %q expire at %s, less than %v from now, and must be renewed first",
			creds.Source, creds.Expires.UTC().Format(time.RFC3339), credcache.MinLife))
	}
	return nil
}

// loadAWSConfig loads the default configuration. Its HTTP client ends calls that hang: the SDK's
// own cache would wait for them forever.
func loadAWSConfig(ctx context.Context, profile string) (aws.Config, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(credcache.CallTimeout)),
	}
	if profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	var absent config.SharedConfigProfileNotExistError
	switch {
	case errors.As(err, &absent):
		return aws.Config{}, redact.Wrap(fmt.Sprintf("dsql: loading the AWS configuration: there is no profile %s", redact.Value(absent.Profile)), err)
	case err != nil:
		return aws.Config{}, redact.Wrap("dsql: loading the AWS configuration failed", err)
	}
	return cfg, nil
}
