package dsql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/dsql/auth"

	"github.com/go-dsql/dsql/internal/explain"
)

const (
	// constructTimeout bounds the AWS configuration and the first credentials.
	constructTimeout = 30 * time.Second
	// defaultCredentialsTimeout bounds the credentials of one connection: pgxpool
	// gives BeforeConnect a context without a deadline, and its slot stays taken.
	defaultCredentialsTimeout = 10 * time.Second
	// providerTimeout ends a call that hangs, so that the next one starts anew.
	providerTimeout = 30 * time.Second
	// minCredentialsLife is what credentials must have left for a token to reach
	// the cluster before it dies with them.
	minCredentialsLife = 5 * time.Second
)

// Token makes a token: the password of one connection. It signs locally, about
// ten microseconds, with cached credentials; tokens themselves are not cached.
// Getting credentials is given 10 seconds ([WithCredentialsTimeout]), or less if
// ctx ends sooner. Missing,
// expired or nearly expired (5 seconds) credentials are an error that wraps the
// provider's.
//
// A token is a secret for as long as it lives ([Config].TokenLifetime). Pools
// and connections of this package make their own.
func (c *Connector) Token(ctx context.Context) (string, error) {
	return c.token(ctx, c.credentialsTimeout)
}

func (c *Connector) token(ctx context.Context, timeout time.Duration) (string, error) {
	creds, err := retrieve(ctx, c.credentials, timeout)
	if err != nil {
		c.log(ctx, slog.LevelWarn, "dsql: no token", slog.String("error", err.Error()))
		return "", err
	}
	c.logToken(ctx, creds)
	sign := auth.GenerateDbConnectAuthToken
	if c.user == adminRole {
		sign = auth.GenerateDBConnectAdminAuthToken
	}
	// The SDK cuts the lifetime to what the credentials have left.
	token, err := sign(ctx, c.endpoint.Host, c.endpoint.Region, credentials.StaticCredentialsProvider{Value: creds},
		func(o *auth.TokenOptions) { o.ExpiresIn = c.tokenLifetime })
	if err != nil {
		return "", fmt.Errorf("dsql: signing the token: %w", err)
	}
	return token, nil
}

// retrieve gets credentials that are good for a connection now.
func retrieve(ctx context.Context, cache *aws.CredentialsCache, timeout time.Duration) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	creds, err := cache.Retrieve(ctx)
	if err == nil && endsSoon(creds) {
		cache.Invalidate() // a cache may hold them to their last second
		creds, err = cache.Retrieve(ctx)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return aws.Credentials{}, explain.Advise(explain.SlowCredentials, fmt.Errorf("dsql: getting AWS credentials timed out after at most %v: %w", timeout, errors.Join(ctx.Err(), err)))
	case err != nil:
		return aws.Credentials{}, explain.Advise(explain.NoCredentials, fmt.Errorf("dsql: no AWS credentials: %w", err))
	case !creds.HasKeys():
		return aws.Credentials{}, explain.Advise(explain.NoCredentials, fmt.Errorf("dsql: no AWS credentials: the provider %q gave empty keys", creds.Source))
	case endsSoon(creds):
		return aws.Credentials{}, explain.Advise(explain.ExpiredCredentials, fmt.Errorf("dsql: the AWS credentials of %q expire at %s, less than %v from now: they must be renewed first",
			creds.Source, creds.Expires.UTC().Format(time.RFC3339), minCredentialsLife))
	}
	return creds, nil
}

func endsSoon(creds aws.Credentials) bool {
	return creds.CanExpire && time.Until(creds.Expires) <= minCredentialsLife
}

// newCredentialsCache puts p behind a cache, unless it is one.
func newCredentialsCache(p aws.CredentialsProvider) *aws.CredentialsCache {
	if cache, ok := p.(*aws.CredentialsCache); ok && cache != nil {
		return cache
	}
	return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		return retrieveWithin(ctx, p, providerTimeout)
	}))
}

// retrieveWithin returns after timeout even when p is deaf to its context. The
// cache calls without a deadline, and every later call joins one that hangs.
func retrieveWithin(ctx context.Context, p aws.CredentialsProvider, timeout time.Duration) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type result struct {
		creds aws.Credentials
		err   error
	}
	done := make(chan result, 1)
	go func() {
		creds, err := p.Retrieve(ctx)
		done <- result{creds, err}
	}()
	select {
	case r := <-done:
		return r.creds, r.err
	case <-ctx.Done():
		return aws.Credentials{}, ctx.Err()
	}
}

// loadAWSConfig loads the default configuration. Its HTTP client ends calls that
// hang, for the same reason as retrieveWithin.
func loadAWSConfig(ctx context.Context, profile string) (aws.Config, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(providerTimeout)),
	}
	if profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("dsql: loading the AWS configuration: %w", err)
	}
	return cfg, nil
}
