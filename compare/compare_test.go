// Package compare puts this library and AWS's Go connector v0.4.0 through the same situations. Each
// test in compare_test.go is a row of the table in the README; roundtrips_test.go counts round
// trips for docs/performance.md.
package compare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsdsql "github.com/awslabs/aurora-dsql-connectors/go/pgx/dsql"
	"github.com/awslabs/aurora-dsql-connectors/go/pgx/occretry"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

const host = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"

var creds = credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "")

// opener opens a pool with either library, after edit has changed its configuration.
type opener func(t *testing.T, endpoint, region string, provider aws.CredentialsProvider, edit func(*pgxpool.Config)) (*pgxpool.Pool, error)

func openTheirs(t *testing.T, endpoint, region string, provider aws.CredentialsProvider, edit func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	p, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, err
	}
	edit(p)
	return awsdsql.NewPool(t.Context(), awsdsql.Config{Host: endpoint, Region: region, CustomCredentialsProvider: provider}, p)
}

func openOurs(t *testing.T, endpoint, region string, provider aws.CredentialsProvider, edit func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	return dsql.NewPool(t.Context(), endpoint, region, dsql.WithCredentials(provider),
		dsql.WithPoolConfig(func(p *pgxpool.Config) error { edit(p); return nil }))
}

// dial routes the cluster's connections to address and leaves others alone.
func dial(p *pgxpool.Config, address string) {
	lookup, direct := p.ConnConfig.LookupFunc, p.ConnConfig.DialFunc
	p.ConnConfig.LookupFunc = func(ctx context.Context, name string) ([]string, error) {
		if name == host {
			return []string{name}, nil
		}
		return lookup(ctx, name)
	}
	p.ConnConfig.DialFunc = func(ctx context.Context, network, to string) (net.Conn, error) {
		if !strings.HasPrefix(to, host) {
			return direct(ctx, network, to)
		}
		if address == "" {
			return nil, errors.New("unreachable")
		}
		return direct(ctx, network, address)
	}
}

func ping(t *testing.T, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return pool.Ping(ctx)
}

func TestTokenInCleartextToPGHOST(t *testing.T) {
	tokens := func(open opener) (seen []string) {
		trap := fakepg.Start(t, fakepg.Hooks{})
		trapHost, trapPort, _ := net.SplitHostPort(trap.Addr)
		t.Setenv("PGHOST", trapHost)
		t.Setenv("PGPORT", trapPort)
		pool, err := open(t, host, "", creds, func(p *pgxpool.Config) { dial(p, "") })
		require.NoError(t, err)
		defer pool.Close()
		_ = ping(t, pool)
		for _, c := range trap.Conns() {
			seen = append(seen, c.Password)
		}
		return seen
	}
	theirs := tokens(openTheirs)
	require.Len(t, theirs, 1)
	require.Contains(t, theirs[0], "X-Amz-Signature=")
	require.Empty(t, tokens(openOurs))
}

func TestFirstBytes(t *testing.T) {
	first := func(open opener) byte {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		seen := make(chan byte, 1)
		go func() {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			b := make([]byte, 1)
			if _, err := c.Read(b); err == nil {
				seen <- b[0]
			}
		}()
		pool, err := open(t, host, "", creds, func(p *pgxpool.Config) { dial(p, listener.Addr().String()) })
		require.NoError(t, err)
		defer pool.Close()
		_ = ping(t, pool)
		return <-seen
	}
	require.EqualValues(t, 0, first(openTheirs), "an SSLRequest, which costs a round trip")
	require.EqualValues(t, 0x16, first(openOurs), "TLS at once")
}

func TestCallersRuntimeParameters(t *testing.T) {
	params := func(open opener) map[string]string {
		pool, err := open(t, host, "", creds, func(p *pgxpool.Config) { p.ConnConfig.RuntimeParams["search_path"] = "app" })
		require.NoError(t, err)
		defer pool.Close()
		return pool.Config().ConnConfig.RuntimeParams
	}
	require.NotContains(t, params(openTheirs), "search_path")
	require.Equal(t, "app", params(openOurs)["search_path"])
}

func TestCallersRootCAs(t *testing.T) {
	cert, roots := fakepg.Certificate(t, host)
	connect := func(open opener) error {
		s := fakepg.Start(t, fakepg.Hooks{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"postgresql"}}})
		pool, err := open(t, host, "", creds, func(p *pgxpool.Config) {
			dial(p, s.Addr)
			if p.ConnConfig.TLSConfig == nil {
				p.ConnConfig.TLSConfig = &tls.Config{ServerName: host}
			}
			p.ConnConfig.TLSConfig.RootCAs = roots
		})
		require.NoError(t, err)
		defer pool.Close()
		return ping(t, pool)
	}
	require.ErrorAs(t, connect(openTheirs), new(x509.UnknownAuthorityError))
	require.NoError(t, connect(openOurs))
}

func TestInvalidPGPORT(t *testing.T) {
	t.Setenv("PGPORT", "abc")
	_, err := awsdsql.NewPool(t.Context(), awsdsql.Config{Host: host, CustomCredentialsProvider: creds})
	require.ErrorContains(t, err, "invalid port")
	pool, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(creds))
	require.NoError(t, err)
	pool.Close()
}

func TestRegionThatContradictsTheEndpoint(t *testing.T) {
	construct := func(open opener) error {
		pool, err := open(t, host, "eu-west-1", creds, func(*pgxpool.Config) {})
		if err == nil {
			pool.Close()
		}
		return err
	}
	require.NoError(t, construct(openTheirs), "the cluster refuses its tokens, which are for eu-west-1")
	require.ErrorContains(t, construct(openOurs), "contradicts")
}

func TestEndpointThatIsAURL(t *testing.T) {
	construct := func(open opener) error {
		pool, err := open(t, "https://"+host, "", creds, func(*pgxpool.Config) {})
		if err == nil {
			pool.Close()
		}
		return err
	}
	require.NoError(t, construct(openTheirs), "it looks up a host with that name")
	require.ErrorContains(t, construct(openOurs), "use the host name alone")
}

func TestLifetimePastTheSessionLimit(t *testing.T) {
	construct := func(open opener) error {
		pool, err := open(t, host, "", creds, func(p *pgxpool.Config) {
			p.MaxConnLifetime, p.MaxConnLifetimeJitter = 55*time.Minute, 10*time.Minute
		})
		if err == nil {
			pool.Close()
		}
		return err
	}
	require.NoError(t, construct(openTheirs))
	require.ErrorContains(t, construct(openOurs), "1h0m0s after which DSQL closes")
}

func TestExpiredCredentials(t *testing.T) {
	expired := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "secret", CanExpire: true, Expires: time.Now().Add(-time.Minute)}, nil
	})
	construct := func(open opener) error {
		pool, err := open(t, host, "", expired, func(*pgxpool.Config) {})
		if err == nil {
			pool.Close()
		}
		return err
	}
	require.NoError(t, construct(openTheirs), "it sends a token that the cluster refuses")
	require.ErrorContains(t, construct(openOurs), "expire")
}

func TestHalfFilledRetryConfiguration(t *testing.T) {
	conflict := &pgconn.PgError{Code: "40001", Message: "change conflicts with another transaction (OC000)"}
	require.Panics(t, func() {
		_ = occretry.Retry(t.Context(), occretry.Config{MaxRetries: 3}, func() error { return conflict })
	})

	calls := 0
	require.NoError(t, occ.Retry(t.Context(), func(context.Context) error {
		if calls++; calls < 3 {
			return conflict
		}
		return nil
	}, occ.WithMaxAttempts(3)))
	require.Equal(t, 3, calls)
}
