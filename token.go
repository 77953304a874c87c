package dsql

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/dsql/auth"

	"github.com/go-dsql/dsql/internal/endpoint"
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
	if err != nil {
		c.logFailure(ctx, c.endpoints[0].Host, c.failedTokens, "dsql: no token", err)
	}
	return creds, err
}
