package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/dsqltest"
)

// stsServer answers GetCallerIdentity by a clock that is off, or with an error.
func stsServer(t *testing.T, off time.Duration, code string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "text/xml")
		if code != "" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`, code)
			return
		}
		fmt.Fprint(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
			<Arn>arn:aws:sts::123456789012:assumed-role/app-server/i-1</Arn><UserId>A</UserId><Account>123456789012</Account>
			</GetCallerIdentityResult></GetCallerIdentityResponse>`)
	}))
	t.Cleanup(s.Close)
	return "AWS_ENDPOINT_URL_STS=" + s.URL
}

func query(t *testing.T, token string) url.Values {
	t.Helper()
	_, text, ok := strings.Cut(token, "?")
	require.True(t, ok)
	values, err := url.ParseQuery(text)
	require.NoError(t, err)
	return values
}

func TestTokenPrintsATokenAndNothingElse(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct{ host, action, expires, region string }{
		endpoint1:                                   {endpoint1, "DbConnectAdmin", "900", "us-east-1"},
		endpoint1 + " --user app":                   {endpoint1, "DbConnect", "900", "us-east-1"},
		"--user app " + endpoint1:                   {endpoint1, "DbConnect", "900", "us-east-1"},
		"-user=app " + endpoint1 + " -expires=1h":   {endpoint1, "DbConnect", "3600", "us-east-1"},
		"--expires 168h -- " + endpoint1:            {endpoint1, "DbConnectAdmin", "604800", "us-east-1"},
		clusterID + " --region eu-west-1":           {clusterID + ".dsql.eu-west-1.on.aws", "DbConnectAdmin", "900", "eu-west-1"},
		"postgres://app@" + endpoint1 + "/postgres": {endpoint1, "DbConnect", "900", "us-east-1"},
		"dsql://app@" + endpoint1 + " --user other": {endpoint1, "DbConnect", "900", "us-east-1"},
	} {
		r := runIn(t, static, append([]string{"token"}, strings.Fields(args)...)...)
		require.Equal(t, 0, r.code, r.err)
		require.Empty(t, r.err)
		require.Equal(t, 1, strings.Count(r.out, "\n"), r.out)
		token := strings.TrimSuffix(r.out, "\n")
		host, _, _ := strings.Cut(token, "?")
		require.Equal(t, want.host, strings.TrimSuffix(host, "/"), args)
		q := query(t, token)
		require.Equal(t, want.action, q.Get("Action"), args)
		require.Equal(t, want.expires, q.Get("X-Amz-Expires"), args)
		require.Contains(t, q.Get("X-Amz-Credential"), "/"+want.region+"/dsql/", args)
	}
}

func TestEnvironmentIsTheDefault(t *testing.T) {
	t.Parallel()
	env := append([]string{"DSQL_ENDPOINT=" + clusterID, "DSQL_REGION=eu-west-1", "DSQL_USER=app"}, static...)
	r := runIn(t, env, "token")
	require.Equal(t, 0, r.code, r.err)
	require.Equal(t, "DbConnect", query(t, r.out).Get("Action"))
	require.Contains(t, r.out, clusterID+".dsql.eu-west-1.on.aws")

	r = runIn(t, env, "token", "--user", "admin", "--region", "us-west-2")
	require.Equal(t, "DbConnectAdmin", query(t, r.out).Get("Action"), "flags override")
	require.Contains(t, r.out, ".dsql.us-west-2.on.aws")

	r = runIn(t, env, "token", endpoint1)
	require.Equal(t, "DbConnectAdmin", query(t, r.out).Get("Action"), "the role is another cluster's")
}

func TestTokenOfAProfile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "credentials")
	require.NoError(t, os.WriteFile(file, []byte("[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = secret\n"), 0o600))
	r := runIn(t, []string{"AWS_SHARED_CREDENTIALS_FILE=" + file}, "token", endpoint1, "--profile", "other")
	require.Equal(t, 0, r.code, r.err)
	require.Contains(t, query(t, r.out).Get("X-Amz-Credential"), "AKIAOTHER/")
}

// The URL is whole: parsers that differ in what they escape all find the token in it.
func TestTokenURLConnects(t *testing.T) {
	t.Parallel()
	const role = `o'dd @:/?#%+ role`
	c, env := start(t, dsqltest.WithRole(role))
	r := runIn(t, env, "token", "--user", role, "--url")
	require.Equal(t, 0, r.code, r.err)
	text := strings.TrimSpace(r.out)
	u, err := url.Parse(text)
	require.NoError(t, err)
	require.Equal(t, c.Endpoint()+":5432", u.Host)
	require.Equal(t, "verify-full", u.Query().Get("sslmode"))
	require.NotEmpty(t, u.Query().Get("sslrootcert"))
	token, _ := u.User.Password()
	require.Equal(t, "DbConnect", query(t, token).Get("Action"))
	require.NotContains(t, strings.TrimPrefix(text, "postgres://"), "&X-Amz")

	cfg, err := pgx.ParseConfig(text)
	require.NoError(t, err)
	require.Equal(t, token, cfg.Password)
	cfg.DialFunc = pgconn.DialFunc(c.Config().DialFunc)
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var user string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_user").Scan(&user))
	require.Equal(t, role, user)
}

// The URL has the session and the trust of the one it was made from, so that libpq reads it too.
func TestTokenURLKeepsTheSettingsOfTheURL(t *testing.T) {
	t.Parallel()
	c, env := start(t)
	given := c.URL() + "&search_path=a%20b%2C%20app&options=-c%20datestyle%3DSQL&application_name=my%20app&connect_timeout=9&token_lifetime=1h"
	r := runIn(t, env, "token", given, "--url")
	require.Equal(t, 0, r.code, r.err)
	text := strings.TrimSpace(r.out)
	require.NotContains(t, text, "+")
	u, err := url.Parse(text)
	require.NoError(t, err)
	token, _ := u.User.Password()
	require.Equal(t, "3600", query(t, token).Get("X-Amz-Expires"))
	parsed, err := url.Parse(given)
	require.NoError(t, err)
	require.Equal(t, url.Values{"sslmode": {"verify-full"}, "sslrootcert": {parsed.Query().Get("sslrootcert")}, "application_name": {"my app"},
		"connect_timeout": {"9"}, "options": {`-c datestyle=SQL -c search_path=a\ b,\ app`}}, u.Query())
}

func TestTokenJSON(t *testing.T) {
	t.Parallel()
	r := runIn(t, append([]string{stsServer(t, 0, "")}, static...), "token", endpoint1, "--user", "app", "--expires", "10m", "--json")
	require.Equal(t, 0, r.code, r.err)
	var got struct {
		Token, Endpoint, Region, User, Principal, Account string
		Expires                                           time.Time
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	require.Equal(t, "600", query(t, got.Token).Get("X-Amz-Expires"))
	require.WithinDuration(t, time.Now().Add(10*time.Minute), got.Expires, time.Minute)
	require.Equal(t, []string{endpoint1, "us-east-1", "app", "123456789012"}, []string{got.Endpoint, got.Region, got.User, got.Account})
	require.Equal(t, "arn:aws:sts::123456789012:assumed-role/app-server/i-1", got.Principal)

	r = runIn(t, static, "token", endpoint1, "--json")
	require.Equal(t, 0, r.code, "AWS STS is not needed")
	require.Contains(t, r.err, "AWS STS could not be reached")
	require.NotContains(t, r.out, "principal")
}

// Credentials that expire sooner end the token with them, and the expiry says so.
func TestTokenEndsWithItsCredentials(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(3 * time.Minute).UTC().Truncate(time.Second)
	env := processCredentials(t, end)
	r := runIn(t, env, "token", endpoint1, "--json")
	require.Equal(t, 0, r.code, r.err)
	var got struct{ Expires time.Time }
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	require.WithinDuration(t, end, got.Expires, 5*time.Second)
}

// processCredentials configures credentials that expire.
func processCredentials(t *testing.T, end time.Time) []string {
	t.Helper()
	dir := t.TempDir()
	out := fmt.Sprintf(`{"Version":1,"AccessKeyId":"AKIAPROCESS","SecretAccessKey":"s3cr3t","SessionToken":"t0k3n","Expiration":%q}`, end.Format(time.RFC3339))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "out"), []byte(out), 0o600))
	file := filepath.Join(dir, "config")
	require.NoError(t, os.WriteFile(file, []byte("[default]\ncredential_process = cat "+filepath.Join(dir, "out")+"\n"), 0o600))
	return []string{"AWS_CONFIG_FILE=" + file}
}

func TestGrantee(t *testing.T) {
	t.Parallel()
	for arn, want := range map[string]string{
		"arn:aws:sts::123456789012:assumed-role/app-server/i-1": "arn:aws:iam::123456789012:role/app-server",
		"arn:aws-cn:sts::1:assumed-role/r/s":                    "arn:aws-cn:iam::1:role/r",
		"arn:aws:iam::123456789012:user/ana":                    "arn:aws:iam::123456789012:user/ana",
		"arn:aws:sts::1:federated-user/ana":                     "arn:aws:sts::1:federated-user/ana",
		"":                                                      "",
	} {
		require.Equal(t, want, grantee(arn))
	}
}
