package dsql_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/dsql/auth"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/harness"
)

// golden is a token made by an independent signer.
type golden struct {
	Endpoint, Region, Action                   string
	AccessKeyID, SecretAccessKey, SessionToken string
	SignedAt                                   time.Time
	ExpiresIn                                  int
	Token                                      string
}

func goldenTokens(t *testing.T) []golden {
	t.Helper()
	data, err := os.ReadFile("testdata/tokens.json")
	require.NoError(t, err)
	var tokens []golden
	require.NoError(t, json.Unmarshal(data, &tokens))
	require.NotEmpty(t, tokens)
	return tokens
}

// parseToken splits a token into host and parameters. The SDK writes HOST?…,
// other signers HOST/?…: the signature is the same.
func parseToken(t *testing.T, token string) (string, url.Values) {
	t.Helper()
	name, query, ok := strings.Cut(token, "?")
	require.True(t, ok)
	params, err := url.ParseQuery(query)
	require.NoError(t, err)
	return strings.TrimSuffix(name, "/"), params
}

func TestTokensEqualTheGoldenOnes(t *testing.T) {
	for i, g := range goldenTokens(t) {
		t.Run(fmt.Sprintf("%d %s %s %ds", i, g.Endpoint, g.Action, g.ExpiresIn), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := dsql.Config{
					Endpoint:      g.Endpoint,
					TokenLifetime: time.Duration(g.ExpiresIn) * time.Second,
					Credentials:   credentials.NewStaticCredentialsProvider(g.AccessKeyID, g.SecretAccessKey, g.SessionToken),
				}
				if g.Action == "DbConnect" {
					cfg.User = "app"
				}
				c, err := dsql.NewConnector(t.Context(), cfg)
				require.NoError(t, err)

				time.Sleep(time.Until(g.SignedAt))
				token, err := c.Token(t.Context())
				require.NoError(t, err)
				gotHost, got := parseToken(t, token)
				wantHost, want := parseToken(t, g.Token)
				require.Equal(t, wantHost, gotHost)
				require.Equal(t, want, got)
			})
		})
	}
}

// The SDK's signer keeps the keys that it derives, and finds them by the access key alone.
func TestACorrectedSecretKeySignsTheNextToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := "wrong"
		cache := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: harness.AccessKey, SecretAccessKey: secret}, nil
		}))
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: cache})
		require.NoError(t, err)
		wrong, err := c.Token(t.Context())
		require.NoError(t, err)

		secret = harness.SecretKey
		cache.Invalidate()
		got, err := c.Token(t.Context())
		require.NoError(t, err)
		require.NotEqual(t, wrong, got)
		want, err := auth.GenerateDBConnectAdminAuthToken(t.Context(), host, "us-east-1", harness.Credentials)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestTokenLifetimeDefaultsTo15Minutes(t *testing.T) {
	c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials})
	require.NoError(t, err)
	token, err := c.Token(t.Context())
	require.NoError(t, err)
	_, params := parseToken(t, token)
	require.Equal(t, "900", params.Get("X-Amz-Expires"))
}

func TestTokenLifetimeIsRefused(t *testing.T) {
	for _, d := range []time.Duration{
		-5 * time.Second, 500 * time.Millisecond, 1500 * time.Millisecond, 7*24*time.Hour + time.Second, 8 * 24 * time.Hour,
	} {
		t.Run(d.String(), func(t *testing.T) {
			_, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, TokenLifetime: d})
			require.ErrorContains(t, err, "dsql: the token lifetime "+d.String())
			_, err = dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dsql.WithTokenLifetime(d))
			require.ErrorContains(t, err, "dsql: the token lifetime "+d.String())
		})
	}
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dsql.WithTokenLifetime(0))
	require.ErrorContains(t, err, "dsql: the token lifetime 0s")
}

func TestActionFollowsTheRole(t *testing.T) {
	for role, action := range map[string]string{"": "DbConnectAdmin", "admin": "DbConnectAdmin", "app": "DbConnect", "administrator": "DbConnect"} {
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, User: role, Credentials: harness.Credentials})
		require.NoError(t, err)
		token, err := c.Token(t.Context())
		require.NoError(t, err)
		_, params := parseToken(t, token)
		require.Equal(t, action, params.Get("Action"), role)
	}
}

func BenchmarkToken(b *testing.B) {
	c, err := dsql.NewConnector(b.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials})
	require.NoError(b, err)
	for b.Loop() {
		if _, err := c.Token(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
