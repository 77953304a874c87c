package dsql_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/harness"
)

// epoch is when the clock of a synctest bubble starts.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

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

func TestCanceledConstructionSaysSo(t *testing.T) {
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
