package dsql_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) option() dsql.Option {
	return dsql.WithLogger(slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// all returns the lines without time and duration, and sees that the durations
// are there.
func (l *lines) all(t *testing.T) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, secret := range harness.Secrets {
		require.NotContains(t, l.text.String(), secret)
	}
	var all []map[string]any
	for line := range strings.Lines(l.text.String()) {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &m))
		if strings.HasPrefix(m["msg"].(string), "dsql: connect") {
			require.Contains(t, m, "duration")
		}
		delete(m, "duration")
		delete(m, "time")
		all = append(all, m)
	}
	return all
}

// levels returns the levels of the lines with a message, and the count of those that have one.
func (l *lines) levels(t *testing.T, message string) (levels []any) {
	t.Helper()
	for _, line := range l.all(t) {
		switch failures := line["failures"]; {
		case line["msg"] != message:
		case failures == nil:
			levels = append(levels, line["level"])
		default:
			levels = append(levels, fmt.Sprint(line["level"], " ", failures))
		}
	}
	return levels
}

func TestConnectionsAreLogged(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{})
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	provider, _ := harness.Provider(func(context.Context, int64) (aws.Credentials, error) {
		creds := harness.Expiring(time.Hour)
		creds.Expires, creds.SessionToken = expires, "the-session-token"
		return creds, nil
	})
	var log lines
	require.NoError(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, log.option(), dsql.WithCredentials(provider), dsql.WithUser("app"))...)))
	token := map[string]any{"level": "DEBUG", "msg": "dsql: token made", "endpoint": host, "role": "app", "credentials_source": "test", "credentials_expire": expires.Format(time.RFC3339)}
	require.Equal(t, []map[string]any{
		{"level": "DEBUG", "msg": "dsql: cluster", "endpoint": host, "role": "app", "region": "us-east-1", "region_from": "endpoint"},
		token, // at construction
		token,
		{"level": "DEBUG", "msg": "dsql: connected", "endpoint": host, "role": "app"},
	}, log.all(t))
}

func TestWhereTheRegionCameFromIsLogged(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	for _, tt := range []struct{ endpoint, region, want string }{
		{host, "", "endpoint"},
		{host, "us-east-1", "endpoint"},
		{harness.ClusterID, "us-east-1", "option"},
		{"db.example.com", "us-east-1", "option"},
		{harness.ClusterID, "", "AWS configuration"},
	} {
		var log lines
		pool, err := dsql.NewPool(t.Context(), tt.endpoint, tt.region, dsql.WithCredentials(harness.Credentials), log.option())
		require.NoError(t, err)
		pool.Close()
		require.Equal(t, tt.want, log.all(t)[0]["region_from"])
	}
}

func TestRefusalsAreWarnings(t *testing.T) {
	_, opts := harness.Start(t, fakepg.Hooks{Password: func(*fakepg.Conn) error {
		return &pgconn.PgError{Code: "28000", Message: "unable to accept connection, access denied"}
	}})
	var log lines
	require.Error(t, harness.Ping(t, harness.NewPool(t, harness.With(opts, log.option())...)))
	all := log.all(t)
	last := all[len(all)-1]
	require.Equal(t, "WARN", last["level"])
	require.Equal(t, "dsql: connect failed", last["msg"])
	require.Contains(t, last["error"], "access denied (SQLSTATE 28000)")
	require.Contains(t, last["explanation"], "AWS IAM GRANT admin TO")
}

// A pool without a database tries again and again: one warning a second says how often.
func TestFailuresToConnectAreOneWarningASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, _ := dialCounter()
		var log lines
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials}, dial, log.option())
		require.NoError(t, err)
		fail := func(times int) {
			for range times {
				time.Sleep(time.Millisecond)
				_, err := c.Connect(t.Context())
				require.ErrorIs(t, err, errDialed)
			}
		}
		fail(5)
		time.Sleep(time.Second)
		fail(2)
		time.Sleep(time.Second)
		fail(1)
		require.Equal(t, []any{"WARN 1", "DEBUG", "DEBUG", "DEBUG", "DEBUG", "WARN 5", "DEBUG", "WARN 2"}, log.levels(t, "dsql: connect failed"))
	})
}

func TestACanceledConnectIsNotAWarning(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var log lines
	_, err := dsql.Connect(ctx, host, "", dsql.WithCredentials(harness.Credentials), log.option(), dsql.WithDialFunc(
		func(ctx context.Context, _, _ string) (net.Conn, error) {
			cancel()
			return nil, ctx.Err()
		}))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []any{"DEBUG"}, log.levels(t, "dsql: connect failed"))
}

func TestNoTurnToConnectIsAWarning(t *testing.T) {
	var log lines
	_, err := dsql.Connect(t.Context(), host, "", dsql.WithCredentials(harness.Credentials), log.option(), dsql.WithConnectLimiter(noTurn{}))
	require.ErrorContains(t, err, "limiter")
	require.Equal(t, []any{"WARN 1"}, log.levels(t, "dsql: connect limiter"))
}

type noTurn struct{}

func (noTurn) Wait(context.Context) error { return errors.New("none") }

func TestMissingCredentialsAreOneWarningASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		provider, _ := harness.Provider(func(_ context.Context, call int64) (aws.Credentials, error) {
			if call == 1 {
				return harness.Expiring(time.Minute), nil
			}
			return aws.Credentials{}, errDialed
		})
		c, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: provider}, log.option())
		require.NoError(t, err)
		time.Sleep(time.Hour)
		for range 3 {
			time.Sleep(400 * time.Millisecond)
			_, err := c.Token(t.Context())
			require.Error(t, err)
		}
		time.Sleep(400 * time.Millisecond)
		_, err = c.Token(t.Context())
		require.Error(t, err)
		require.Equal(t, []any{"WARN 1", "DEBUG", "DEBUG", "WARN 3"}, log.levels(t, "dsql: no token"))
	})
}

func TestMissingCredentialsAreAWarning(t *testing.T) {
	provider, _ := harness.Provider(func(context.Context, int64) (aws.Credentials, error) { return aws.Credentials{}, errDialed })
	var log lines
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(provider), log.option())
	require.Error(t, err)
	all := log.all(t)
	require.Equal(t, "WARN", all[1]["level"])
	require.Equal(t, "dsql: no token", all[1]["msg"])
	require.Contains(t, all[1]["error"], "no AWS credentials")
}

func TestNothingIsLoggedWithoutALogger(t *testing.T) {
	var log lines
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	s, opts := harness.Start(t, fakepg.Hooks{Password: func(*fakepg.Conn) error { return &pgconn.PgError{Code: "53400", Message: "no"} }})
	require.Error(t, harness.Ping(t, harness.NewPool(t, opts...)))
	require.Len(t, s.Conns(), 1)
	require.Empty(t, log.text.String())
}

func TestLoggerMustNotBeNil(t *testing.T) {
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithLogger(nil))
	require.ErrorContains(t, err, "dsql: WithLogger: the logger must not be nil")
}
