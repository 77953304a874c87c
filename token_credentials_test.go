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
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
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

// epoch is when the clock of a synctest bubble starts.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

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

func TestHangingProviderNeitherWedgesThePoolNorBlocksClose(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ignores bool // its context
	}{{"heeds its context", false}, {"ignores its context", true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				provider, _ := harness.Provider(func(ctx context.Context, call int64) (aws.Credentials, error) {
					if call != 2 {
						return harness.Expiring(time.Minute), nil
					}
					if tt.ignores {
						<-release
						return aws.Credentials{}, errors.New("too late")
					}
					<-ctx.Done()
					return aws.Credentials{}, ctx.Err()
				})
				dial, dials := dialCounter()
				pool, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(provider), dial,
					dsql.WithPoolConfig(func(p *pgxpool.Config) error { p.MaxConns = 1; return nil }))
				require.NoError(t, err)
				time.Sleep(2 * time.Minute) // the first credentials are gone

				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				require.ErrorIs(t, pool.Ping(ctx), context.DeadlineExceeded)

				err = pool.Ping(t.Context())
				require.ErrorContains(t, err, "dsql: getting AWS credentials timed out")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Zero(t, dials.Load(), "nothing was dialed")

				// The hung call is given up, and the same pool works again.
				time.Sleep(30 * time.Second)
				require.ErrorIs(t, pool.Ping(t.Context()), errDialed)

				close(release)
				start := time.Now()
				pool.Close()
				require.Less(t, time.Since(start), 11*time.Second)
			})
		})
	}
}

func TestCloseWhileTheProviderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		provider, _ := harness.Provider(func(_ context.Context, call int64) (aws.Credentials, error) {
			if call > 1 {
				<-release
			}
			return harness.Expiring(time.Minute), nil
		})
		dial, _ := dialCounter()
		pool, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(provider), dial)
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		go func() { _ = pool.Ping(context.Background()) }()
		synctest.Wait()
		start := time.Now()
		pool.Close()
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
		close(release)
	})
}

func TestConstructionWaits30SecondsForCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider, _ := harness.Provider(func(ctx context.Context, _ int64) (aws.Credentials, error) {
			<-ctx.Done()
			return aws.Credentials{}, ctx.Err()
		})
		start := time.Now()
		_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(provider))
		require.ErrorContains(t, err, "timed out")
		require.Equal(t, 30*time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = dsql.NewPool(ctx, host, "", dsql.WithCredentials(provider))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		time.Sleep(time.Minute) // the abandoned call ends, with its goroutines
	})
}

func TestCancelledConstructionSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	provider, _ := harness.Provider(func(ctx context.Context, _ int64) (aws.Credentials, error) {
		cancel()
		<-ctx.Done()
		return aws.Credentials{}, ctx.Err()
	})
	_, err := dsql.NewPool(ctx, host, "", dsql.WithCredentials(provider))
	require.ErrorContains(t, err, "canceled")
}

func TestCredentialsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider, _ := harness.Provider(func(ctx context.Context, call int64) (aws.Credentials, error) {
			if call > 1 {
				<-ctx.Done()
				return aws.Credentials{}, ctx.Err()
			}
			return harness.Expiring(time.Minute), nil
		})
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: provider, CredentialsTimeout: 2 * time.Second})
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		start := time.Now()
		_, err = c.Token(t.Context())
		require.ErrorContains(t, err, "dsql: getting AWS credentials timed out after at most 2s")
		require.Equal(t, 2*time.Second, time.Since(start))
		time.Sleep(time.Minute) // the abandoned call ends, with its goroutines
	})
	for _, d := range []time.Duration{0, -time.Second, time.Microsecond, 31 * time.Second} {
		_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), dsql.WithCredentialsTimeout(d))
		require.ErrorContains(t, err, "dsql: the credentials timeout "+d.String()+" must be between 1ms and 30s")
	}
	_, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, CredentialsTimeout: -1})
	require.ErrorContains(t, err, "dsql: the credentials timeout")
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

func TestCancelledContextIsNotMissingCredentials(t *testing.T) {
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

type panicking struct{}

func (*panicking) Retrieve(context.Context) (aws.Credentials, error) { panic("no") }

func TestNilAndPanickingProvidersAreErrors(t *testing.T) {
	var typedNil *panicking
	for _, option := range []dsql.Option{dsql.WithCredentials(typedNil), dsql.WithAWSConfig(aws.Config{Credentials: typedNil}), func(c *dsql.Config) error { c.Credentials = typedNil; return nil }} {
		_, err := dsql.NewPool(t.Context(), host, "", option)
		require.Error(t, err)
		require.Contains(t, err.Error(), "dsql: ")
		require.NotContains(t, err.Error(), "panicked")
	}
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(&panicking{}))
	require.ErrorContains(t, err, "dsql: no AWS credentials: ")
}

// A call that hangs once is given up after 30 seconds, however it was configured, unless the SDK's
// cache holds it, which WithCredentials says.
func TestProviderOfAnAWSConfigRecoversFromAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		provider, calls := harness.Provider(func(_ context.Context, call int64) (aws.Credentials, error) {
			if call == 2 {
				<-release
			}
			return harness.Expiring(time.Minute), nil
		})
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host}, dsql.WithAWSConfig(aws.Config{Credentials: provider}))
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		_, err = c.Token(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(21 * time.Second)
		_, err = c.Token(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, calls.Load())
		close(release)
	})
}
