package dsql_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestOptionsAreRefused(t *testing.T) {
	creds := dsql.WithCredentials(harness.Credentials)
	for _, tt := range []struct {
		name string
		opts []dsql.Option
		want string
	}{
		{"nil option", []dsql.Option{creds, nil}, "dsql: option 2 is nil"},
		{"empty role", []dsql.Option{dsql.WithUser("")}, "dsql: WithUser: the role must not be empty"},
		{"Admin", []dsql.Option{creds, dsql.WithUser("Admin")}, `dsql: invalid role "Admin": did you mean "admin"?`},
		{"space before admin", []dsql.Option{creds, dsql.WithUser(" admin")}, `dsql: invalid role " admin": did you mean "admin"?`},
		{"newline after admin", []dsql.Option{creds, dsql.WithUser("admin\n")}, `did you mean "admin"?`},
		{"space around a role", []dsql.Option{creds, dsql.WithUser("app ")}, `dsql: the role "app " must not have surrounding space`},
		{"NUL in a role", []dsql.Option{creds, dsql.WithUser("a\x00b")}, "NUL"},
		{"overlong role", []dsql.Option{creds, dsql.WithUser(strings.Repeat("a", 64))}, "64 bytes"},
		{"nil credentials", []dsql.Option{dsql.WithCredentials(nil)}, "dsql: WithCredentials: the provider must not be nil"},
		{"empty profile", []dsql.Option{dsql.WithProfile("")}, "dsql: WithProfile: the name must not be empty"},
		{"profile and credentials", []dsql.Option{creds, dsql.WithProfile("dev")}, "dsql: Credentials and Profile"},
		{"profile and AWS configuration", []dsql.Option{dsql.WithAWSConfig(aws.Config{}), dsql.WithProfile("dev")}, "dsql: AWSConfig and Profile"},
		{"nil roots", []dsql.Option{dsql.WithRootCAs(nil)}, "dsql: WithRootCAs: the pool must not be nil"},
		{"nil dial function", []dsql.Option{dsql.WithDialFunc(nil)}, "dsql: WithDialFunc: the function must not be nil"},
		{"nil pool function", []dsql.Option{dsql.WithPoolConfig(nil)}, "dsql: WithPoolConfig: the function must not be nil"},
		{"unnamed parameter", []dsql.Option{dsql.WithRuntimeParam("", "x")}, "empty name"},
		{"user as parameter", []dsql.Option{dsql.WithRuntimeParam("user", "x")}, "WithUser"},
		{"password as parameter", []dsql.Option{dsql.WithRuntimeParam("password", "hunter2")}, "tokens are made for you"},
		{"database as parameter", []dsql.Option{dsql.WithRuntimeParam("database", "x")}, "always postgres"},
		{"NUL in a parameter", []dsql.Option{dsql.WithRuntimeParam("search_path", "a\x00b")}, "NUL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dsql.NewPool(t.Context(), host, "", tt.opts...)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "hunter2")
			_, err = dsql.Connect(t.Context(), host, "", tt.opts...)
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, RuntimeParams: map[string]string{"user": "eve"}})
	require.ErrorContains(t, err, "WithUser")
}

func TestRuntimeParametersAreMerged(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	pool := harness.NewPool(t, harness.With(opts, dsql.WithRuntimeParam("search_path", "app"), dsql.WithRuntimeParam("application_name", "svc"),
		dsql.WithRuntimeParam("search_path", "app2"))...)
	require.NoError(t, harness.Ping(t, pool))
	require.Equal(t, map[string]string{"user": "admin", "database": "postgres", "search_path": "app2", "application_name": "svc"}, s.Conns()[0].Parameters)
}

func TestCallersValuesAreNotChangedAndMayBeShared(t *testing.T) {
	params := map[string]string{"search_path": "app"}
	roots := x509.NewCertPool()
	cfg := dsql.Config{Endpoint: host, Credentials: harness.Credentials, RuntimeParams: params, RootCAs: roots}
	require.NoError(t, dsql.WithRuntimeParam("timezone", "UTC")(&cfg))
	require.Equal(t, map[string]string{"search_path": "app"}, params)

	shared := []dsql.Option{
		dsql.WithCredentials(harness.Credentials), dsql.WithRootCAs(roots), dsql.WithRuntimeParam("search_path", "app"),
		dsql.WithPoolConfig(func(p *pgxpool.Config) error { p.MaxConns = 2; return nil }),
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			pool, err := dsql.NewPool(t.Context(), host, "", shared...)
			if err != nil {
				t.Error(err)
				return
			}
			pool.Close()
			if _, err := dsql.NewConnector(t.Context(), cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	require.True(t, roots.Equal(x509.NewCertPool()))
}

func TestPoolConfigFunctionsRunInOrder(t *testing.T) {
	var order []int
	note := func(i int) dsql.Option {
		return dsql.WithPoolConfig(func(*pgxpool.Config) error { order = append(order, i); return nil })
	}
	harness.NewPool(t, dsql.WithCredentials(harness.Credentials), note(1), note(2), note(3))
	require.Equal(t, []int{1, 2, 3}, order)

	broken := errors.New("broken")
	_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(harness.Credentials),
		dsql.WithPoolConfig(func(*pgxpool.Config) error { return broken }), note(4))
	require.ErrorIs(t, err, broken)
	require.Equal(t, []int{1, 2, 3}, order)
}

func TestNothingPrintedHoldsASecret(t *testing.T) {
	provider := credentials.NewStaticCredentialsProvider(harness.AccessKey, harness.SecretKey, "the-session-token")
	cfg := dsql.Config{Endpoint: host, Credentials: provider, AWSConfig: &aws.Config{Credentials: provider}}
	c, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)

	var printed []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		printed = append(printed, fmt.Sprintf(verb, cfg), fmt.Sprintf(verb, &cfg), fmt.Sprintf(verb, c),
			fmt.Sprintf(verb, struct{ C dsql.Config }{cfg}), fmt.Sprintf(verb, []*dsql.Connector{c}))
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "config", cfg, "connector", c)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "config", cfg, "connector", c)
	printed = append(printed, log.String())
	for _, p := range printed {
		for _, secret := range harness.Secrets {
			require.NotContains(t, p, secret)
		}
	}
	require.Equal(t, "dsql.Config{admin at "+host+"}", cfg.String())
	require.Equal(t, "dsql.Connector{admin at "+host+"}", c.String())
}

func TestNoErrorOfAConnectionHoldsASecret(t *testing.T) {
	for name, hooks := range map[string]fakepg.Hooks{
		"cut at once":         {Accept: func(net.Conn) error { return net.ErrClosed }},
		"cut after the token": {Password: func(*fakepg.Conn) error { return net.ErrClosed }},
		"refused the token": {Password: func(*fakepg.Conn) error {
			return &pgconn.PgError{Code: "08006", Message: "unable to accept connection, access denied"}
		}},
		"refused the database": {Startup: func(*fakepg.Conn) error { return &pgconn.PgError{Code: "3D000", Message: "no such database"} }},
	} {
		t.Run(name, func(t *testing.T) {
			_, opts := harness.Start(t, hooks)
			opts = harness.With(opts, dsql.WithCredentials(credentials.NewStaticCredentialsProvider(harness.AccessKey, harness.SecretKey, "the-session-token")))
			pool := harness.NewPool(t, opts...)
			err := pool.Ping(context.Background())
			require.Error(t, err)
			for _, printed := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
				for _, secret := range harness.Secrets {
					require.NotContains(t, printed, secret)
				}
			}
			require.Empty(t, pool.Config().ConnConfig.Password)
		})
	}
}
