package dsql_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/occ"
)

var errDialed = errors.New("dialed")

// dialCounter counts dials, all of which fail with errDialed.
func dialCounter() (dsql.Option, *atomic.Int64) {
	dials := new(atomic.Int64)
	return dsql.WithDialFunc(func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, errDialed
	}), dials
}

func TestCredentialsAreCheckedAtConstruction(t *testing.T) {
	broken := errors.New("role not found")
	for _, tt := range []struct {
		name  string
		creds aws.Credentials
		err   error
		want  string
	}{
		{"provider fails", aws.Credentials{}, broken, "dsql: no AWS credentials: "},
		{"empty keys", aws.Credentials{Source: "test"}, nil, `dsql: no AWS credentials: the provider "test" returned empty keys`},
		{"no secret key", aws.Credentials{AccessKeyID: harness.AccessKey, Source: "test"}, nil, "empty keys"},
		{"expired", harness.Expiring(-time.Minute), nil, `dsql: the AWS credentials of "test" expire at `},
		{"about to expire", harness.Expiring(4 * time.Second), nil, "must be renewed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			provider, _ := harness.Provider(func(context.Context, int64) (aws.Credentials, error) { return tt.creds, tt.err })
			dial, dials := dialCounter()
			_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(provider), dial)
			require.ErrorContains(t, err, tt.want)
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
			}
			require.Zero(t, dials.Load())
		})
	}
}

func TestAWSConfigWithoutCredentialsIsAnError(t *testing.T) {
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithAWSConfig(aws.Config{}))
	require.ErrorContains(t, err, "dsql: no AWS credentials: the aws.Config has no")
}

func TestDefaultChainWithoutCredentialsIsAnError(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	_, err := dsql.NewPool(t.Context(), host, "")
	require.ErrorContains(t, err, "dsql: no AWS credentials: ")
	_, err = dsql.NewPool(t.Context(), host, "", dsql.WithProfile("absent"))
	require.ErrorContains(t, err, "dsql: loading the AWS configuration")
	require.ErrorContains(t, err, "absent")
}

func TestDefaultChainReadsTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", harness.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", harness.SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", "from the environment")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host})
	require.NoError(t, err)
	token, err := c.Token(t.Context())
	require.NoError(t, err)
	_, params := parseToken(t, token)
	require.Equal(t, "from the environment", params.Get("X-Amz-Security-Token"))
}

func TestOneProviderCallServesManyConnections(t *testing.T) {
	provider, calls := harness.Provider(func(context.Context, int64) (aws.Credentials, error) { return harness.Expiring(time.Hour), nil })
	_, opts := harness.Start(t, fakepg.Hooks{})
	pool := harness.NewPool(t, harness.With(opts, dsql.WithCredentials(provider))...)
	for range 5 {
		require.NoError(t, harness.Ping(t, pool))
		pool.Reset()
	}
	require.EqualValues(t, 1, calls.Load())
}

func TestTokenEndsWithItsCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider, _ := harness.Provider(func(context.Context, int64) (aws.Credentials, error) { return harness.Expiring(time.Minute), nil })
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: provider})
		require.NoError(t, err)
		for _, age := range []time.Duration{0, 20, 30} {
			time.Sleep(age * time.Second)
			token, err := c.Token(t.Context())
			require.NoError(t, err)
			_, params := parseToken(t, token)
			left, err := strconv.Atoi(params.Get("X-Amz-Expires"))
			require.NoError(t, err)
			require.Equal(t, 60-int(time.Since(epoch).Seconds()), left)
		}
	})
}

func TestCachedCredentialsAreRenewedBeforeTheyEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		age  time.Duration // of credentials that live a minute
		want int64         // provider calls
	}{
		{"long before", 30 * time.Second, 1},
		{"more than 5 s left", 54 * time.Second, 1},
		{"5 s left", 55 * time.Second, 2},
		{"ended", 61 * time.Second, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				provider, calls := harness.Provider(func(context.Context, int64) (aws.Credentials, error) { return harness.Expiring(time.Minute), nil })
				// A cache of the caller's own is used as it is.
				cache := aws.NewCredentialsCache(provider)
				c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: cache})
				require.NoError(t, err)
				time.Sleep(tt.age)
				_, err = c.Token(t.Context())
				require.NoError(t, err)
				require.Equal(t, tt.want, calls.Load())
			})
		})
	}
}

// startSTS is an STS that knows AssumeRole, and counts the calls.
func startSTS(t *testing.T) (*sts.Client, *atomic.Int64) {
	t.Helper()
	calls := new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>assumed %s</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`, harness.AccessKey, harness.SecretKey, r.FormValue("RoleArn"), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(server.Close)
	cfg := aws.Config{Region: "us-east-1", Credentials: harness.Credentials, BaseEndpoint: aws.String(server.URL)}
	return sts.NewFromConfig(cfg), calls
}

func TestAssumedRoleIsOneSTSCallForManyConnections(t *testing.T) {
	stsClient, calls := startSTS(t)
	s, opts := harness.Start(t, fakepg.Hooks{})

	const roleARN = "arn:aws:iam::210987654321:role/dsql-app"
	provider := stscreds.NewAssumeRoleProvider(stsClient, roleARN)
	pool := harness.NewPool(t, harness.With(opts, dsql.WithCredentials(provider), dsql.WithUser("app"))...)
	for range 5 {
		require.NoError(t, harness.Ping(t, pool))
		pool.Reset()
	}
	require.Len(t, s.Conns(), 5)
	require.EqualValues(t, 1, calls.Load())
	for _, c := range s.Conns() {
		_, token := parseToken(t, c.Password)
		require.Equal(t, "assumed "+roleARN, token.Get("X-Amz-Security-Token"))
	}
}

func TestCanceledContextIsNotMissingCredentials(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	provider, calls := harness.Provider(func(context.Context, int64) (aws.Credentials, error) { return harness.Expiring(time.Hour), nil })
	_, err := dsql.NewPool(ctx, host, "", dsql.WithCredentials(provider))
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "no AWS credentials")
	require.Zero(t, calls.Load())

	synctest.Test(t, func(t *testing.T) {
		provider, _ := harness.Provider(func(ctx context.Context, call int64) (aws.Credentials, error) {
			if call > 1 {
				<-ctx.Done()
				return aws.Credentials{}, ctx.Err()
			}
			return harness.Expiring(time.Minute), nil
		})
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: provider})
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = c.Token(ctx)
		require.ErrorContains(t, err, "dsql: getting AWS credentials was interrupted: context canceled")
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, dsql.Explain(err))
		time.Sleep(time.Minute) // the abandoned call ends, with its goroutines
	})
}

// The pause is a second; as many connects as come in it share one answer.
func TestNearlyExpiredCredentialsAreNotAskedForByEveryConnect(t *testing.T) {
	for _, tt := range []struct {
		name string
		wrap func(aws.CredentialsProvider) aws.CredentialsProvider
		left time.Duration
	}{
		{"bare", func(p aws.CredentialsProvider) aws.CredentialsProvider { return p }, 3 * time.Second},
		{"bare, expired", func(p aws.CredentialsProvider) aws.CredentialsProvider { return p }, -time.Second},
		{"cache", func(p aws.CredentialsProvider) aws.CredentialsProvider { return aws.NewCredentialsCache(p) }, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				provider, calls := harness.Provider(func(_ context.Context, call int64) (aws.Credentials, error) {
					if call == 1 {
						return harness.Expiring(time.Hour), nil
					}
					return harness.Expiring(tt.left), nil
				})
				c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: tt.wrap(provider)})
				require.NoError(t, err)
				time.Sleep(2 * time.Hour)
				for range 100 {
					_, err := c.Token(t.Context())
					require.ErrorContains(t, err, "must be renewed")
				}
				require.LessOrEqual(t, calls.Load(), int64(3))
				time.Sleep(time.Second)
				_, err = c.Token(t.Context())
				require.ErrorContains(t, err, "must be renewed")
				require.Greater(t, calls.Load(), int64(2), "after the pause it is asked again")
			})
		})
	}
}

// After "Signature expired" the next token is signed with newly requested credentials, which not
// every connect requests while the clock is wrong.
func TestExpiredSignatureRequestsCredentialsAgain(t *testing.T) {
	for name, wrap := range map[string]func(aws.CredentialsProvider) aws.CredentialsProvider{
		"bare":  func(p aws.CredentialsProvider) aws.CredentialsProvider { return p },
		"cache": func(p aws.CredentialsProvider) aws.CredentialsProvider { return aws.NewCredentialsCache(p) },
	} {
		t.Run(name, func(t *testing.T) {
			var expired atomic.Int64 // signatures to refuse
			sql := new(fakepg.SQL)
			_, opts := harness.Start(t, fakepg.Hooks{Session: sql.Session, Password: func(c *fakepg.Conn) error {
				if expired.Add(-1) >= 0 {
					return &pgconn.PgError{Code: "08006", Message: "unable to accept connection, access denied", Hint: "Signature expired: 20261001T000000Z"}
				}
				return nil
			}})
			for _, fails := range []bool{false, true} { // the second call: then the first answer serves on
				provider, calls := harness.Provider(func(_ context.Context, call int64) (aws.Credentials, error) {
					if fails && call == 2 {
						return aws.Credentials{}, errors.New("no answer")
					}
					return harness.Expiring(time.Hour), nil
				})
				pool := harness.NewPool(t, harness.With(opts, dsql.WithCredentials(wrap(provider)))...)
				require.EqualValues(t, 1, calls.Load())
				expired.Store(1)
				require.NoError(t, occ.RunTx(t.Context(), pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(t.Context(), "update t set n = 1 where id = 1")
					return err
				}))
				require.Greater(t, calls.Load(), int64(1))
				expired.Store(100)
				pool.Reset()
				for range 20 {
					require.ErrorContains(t, pool.Ping(t.Context()), "access denied")
				}
				if name == "bare" {
					require.EqualValues(t, 2, calls.Load())
				}
			}
		})
	}
}
