package dsql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/dsql/auth"

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
	return c.signFor(ctx, c.endpoints[0], c.credentialsTimeout)
}

// signFor returns a token for one endpoint of the cluster.
func (c *Connector) signFor(ctx context.Context, e endpoint.Endpoint, timeout time.Duration) (string, error) {
	creds, err := c.retrieve(ctx, timeout)
	if err != nil {
		return "", err
	}
	c.logToken(ctx, e.Host, creds)
	sign := auth.GenerateDbConnectAuthToken
	if c.user == adminRole {
		sign = auth.GenerateDBConnectAdminAuthToken
	}
	// The SDK cuts the lifetime to what the credentials have left.
	token, err := sign(ctx, e.Host, e.Region, credentials.StaticCredentialsProvider{Value: creds},
		func(o *auth.TokenOptions) { o.ExpiresIn = c.tokenLifetime })
	if err != nil {
		return "", redact.Wrap("dsql: signing the token failed", err)
	}
	return token, nil
}

// retrieve returns credentials that can open a connection now.
func (c *Connector) retrieve(ctx context.Context, timeout time.Duration) (aws.Credentials, error) {
	creds, err := c.credentials.Retrieve(ctx, timeout)
	if err = checkCredentials(creds, err, timeout); err != nil {
		c.logFailure(ctx, c.endpoints[0].Host, c.failedTokens, "dsql: no token", err)
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
