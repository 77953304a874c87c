package dsql_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/harness"
)

// holder is a caller's struct: fmt calls no methods of what is in its unexported fields.
type holder struct {
	name string
	cfg  dsql.Config
	ptr  *dsql.Config
	c    *dsql.Connector
}

func TestConfigInAnotherStructShowsNoSecret(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", harness.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", harness.SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", "the-session-token")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	static := credentials.NewStaticCredentialsProvider(harness.AccessKey, harness.SecretKey, "the-session-token")
	loaded, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	for name, option := range map[string]dsql.Option{
		"static":       dsql.WithCredentials(static),
		"cache":        dsql.WithCredentials(aws.NewCredentialsCache(static)),
		"loaded":       dsql.WithAWSConfig(loaded),
		"static in it": dsql.WithAWSConfig(aws.Config{Region: "us-east-1", Credentials: static}),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := dsql.Config{Endpoint: host}
			require.NoError(t, option(&cfg))
			c, err := dsql.NewConnector(t.Context(), cfg)
			require.NoError(t, err)
			token, err := c.Token(t.Context())
			require.NoError(t, err)
			require.Contains(t, token, harness.AccessKey)

			h := holder{name, cfg, &cfg, c}
			requireNoSecret(t, h, &h, []holder{h}, map[string]*holder{"": &h}, cfg, &cfg, c, *c)
			var log bytes.Buffer
			for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
				slog.New(handler).Info("", "holder", h, "pointer", &h, "exported", struct{ Config dsql.Config }{cfg}, "config", cfg, "connector", c)
			}
			requireNoSecret(t, log.String())
			require.Contains(t, log.String(), `"dsql.Config{admin at `+host+`}"`)
		})
	}
	// A field that is set without an option prints as an address if what it holds does.
	cfg := dsql.Config{Endpoint: host, Credentials: aws.CredentialsProviderFunc(static.Retrieve)}
	requireNoSecret(t, holder{cfg: cfg, ptr: &cfg})
}

func TestCredentialProcessThatIsNotCleanJSONShowsNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the process is a shell script")
	}
	dir := t.TempDir()
	keys := `{"Version": 1, "AccessKeyId": "` + harness.AccessKey + `", "SecretAccessKey": "` + harness.SecretKey + `", "SessionToken": "the-session-token"`
	for name, script := range map[string]string{
		"a warning before it": "echo WARNING; echo '" + keys + "}'",
		"a bad Expiration":    "echo '" + keys + `, "Expiration": "the-session-token"}'`,
		"cut":                 "echo '" + keys + "'",
		"exit status":         "echo '" + keys + "}'; exit 3",
		"wrong version":       "echo '" + `{"Version": 7, "SecretAccessKey": "` + harness.SecretKey + `"}'`,
	} {
		t.Run(name, func(t *testing.T) {
			process := filepath.Join(dir, "process")
			require.NoError(t, os.WriteFile(process, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
			file := filepath.Join(dir, "config")
			require.NoError(t, os.WriteFile(file, []byte("[profile p]\ncredential_process = "+process+"\n"), 0o600))
			t.Setenv("AWS_CONFIG_FILE", file)
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_PROFILE", "")
			var log lines
			_, err := dsql.NewPool(t.Context(), host, "", dsql.WithProfile("p"), log.option())
			require.ErrorContains(t, err, "dsql: no AWS credentials: ")
			requireNoSecret(t, err, dsql.Explain(err))
			require.Contains(t, dsql.Explain(err), "aws sts get-caller-identity")
			require.NotEmpty(t, log.all(t))
		})
	}
}

// quoting is an error of a value type: %#v prints its fields.
type quoting struct{ Text string }

func (q quoting) Error() string { return q.Text }

func TestErrorOfAProviderKeepsItsChainAndNotItsText(t *testing.T) {
	for name, provider := range map[string]aws.CredentialsProvider{
		"error": aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, fmt.Errorf("the answer was %s: %w", harness.SecretKey, quoting{harness.SecretKey})
		}),
		"panic": aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			panic(errors.New(harness.SecretKey))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			_, err := dsql.NewPool(t.Context(), host, "", dsql.WithCredentials(provider), log.option())
			require.ErrorContains(t, err, "dsql: no AWS credentials: ")
			if name == "error" {
				require.ErrorAs(t, err, new(quoting))
				require.ErrorContains(t, err, "dsql_test.quoting")
			}
			requireNoSecret(t, err, dsql.Explain(err))
			require.NotEmpty(t, log.all(t))
		})
	}
}

// hunter2 stands where a careless hand put a password.
func TestOddInputsAreNotShown(t *testing.T) {
	for _, input := range []string{
		"jdbc:postgresql://" + host + ":5432/postgres;user=admin;password=hunter2",
		"jdbc:postgresql://" + host + ";password=hunter2",
		"postgres://" + host + "/postgres;password=hunter2",
		"postgres://" + host + "/hunter2;x",
		"postgres://admin:hunter2", "admin:hunter2", host + ":hunter2", host + ";password=hunter2", host + "/x;hunter2",
		"postgres://" + host + "?sslmode=require;password=hunter2",
		"postgres://" + host + "?region=us-east-1;password=hunter2",
		"postgres://" + host + "?token_lifetime=15m;password=hunter2",
		"postgres://" + host + "?pool_max_conns=3;password=hunter2",
		"postgres://" + host + "?x;password=hunter2",
		"postgres://" + host + "?password=hunter2", "postgres://" + host + "?sslpassword=hunter2",
		"https://x:hunter2", "arn:aws:dsql:hunter2:1:cluster/hunter2",
		"Server=" + host + ";Password=hunter2", "host=" + host + " password=hunter2",
	} {
		_, err := dsql.ParseURL(input)
		require.Error(t, err, input)
		require.NotContains(t, err.Error(), "hunter2")
		for _, cfg := range []dsql.Config{
			{Endpoint: input}, {Endpoint: host, Region: input}, {Endpoint: host, DialAddress: input},
			{Endpoint: host, Settings: map[string]string{"sslnegotiation": input}}, {Endpoint: host, Settings: map[string]string{input: ""}},
		} {
			cfg.Credentials = harness.Credentials
			_, err := dsql.NewConnector(t.Context(), cfg)
			require.Error(t, err, input)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, cfg.String(), "hunter2")
		}
		t.Setenv("DSQL_ENDPOINT", input)
		_, err = dsql.FromEnv()
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
