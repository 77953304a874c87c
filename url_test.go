package dsql_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

func TestParseURL(t *testing.T) {
	params := func(kv ...string) map[string]string {
		m := make(map[string]string)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, tt := range []struct {
		name, url string
		want      dsql.Config
	}{
		{"host name", host, dsql.Config{Endpoint: host}},
		{"host name in upper case, with space and port", " " + strings.ToUpper(host) + ":5432\n", dsql.Config{Endpoint: host}},
		{"cluster ID", harness.ClusterID, dsql.Config{Endpoint: harness.ClusterID}},
		{"nothing but a host", "postgres://" + host, dsql.Config{Endpoint: host}},
		{"other schemes", "postgresql://" + host + "/", dsql.Config{Endpoint: host}},
		{"own scheme", "dsql://" + host + "/postgres", dsql.Config{Endpoint: host}},
		{"scheme in upper case", "DSQL://" + host, dsql.Config{Endpoint: host}},
		{"cluster ID with a region", "dsql://" + harness.ClusterID + "?region=eu-west-2", dsql.Config{Endpoint: harness.ClusterID, Region: "eu-west-2"}},
		{"PrivateLink name", "dsql://" + harness.ClusterID + ".dsql-fnh4.us-east-1.on.aws", dsql.Config{Endpoint: harness.ClusterID + ".dsql-fnh4.us-east-1.on.aws"}},
		{"role, port and database", "postgres://app@" + host + ":5432/postgres", dsql.Config{Endpoint: host, User: "app"}},
		{"admin", "postgres://admin@" + host, dsql.Config{Endpoint: host, User: "admin"}},
		{"role with escapes", "postgres://my%40app%2F%20x@" + host, dsql.Config{Endpoint: host, User: "my@app/ x"}},
		{"a plus in a role is a plus", "postgres://a+b@" + host, dsql.Config{Endpoint: host, User: "a+b"}},
		{"runtime parameters", "postgres://app@" + host + "/postgres?search_path=app,x&application_name=my%20svc&options=-c+timezone%3DUTC",
			dsql.Config{Endpoint: host, User: "app", RuntimeParams: params("search_path", "app,x", "application_name", "my svc", "options", "-c timezone=UTC")}},
		{"an empty search_path", "postgres://" + host + "?search_path=", dsql.Config{Endpoint: host, RuntimeParams: params("search_path", "")}},
		{"an @ in a value", "postgres://" + host + "?application_name=a%40b", dsql.Config{Endpoint: host, RuntimeParams: params("application_name", "a@b")}},
		{"profile and token lifetime", "postgres://" + host + "?profile=dev&token_lifetime=1h30m", dsql.Config{Endpoint: host, Profile: "dev", TokenLifetime: 90 * time.Minute}},
		{"sslmode require", "postgres://" + host + "?sslmode=require", dsql.Config{Endpoint: host}},
		{"sslmode verify-ca", "postgres://" + host + "?sslmode=verify-ca", dsql.Config{Endpoint: host}},
		{"sslmode verify-full", "postgres://" + host + "?sslmode=verify-full", dsql.Config{Endpoint: host}},
		{"settings", "postgres://" + host + "?sslnegotiation=postgres&connect_timeout=3&default_query_exec_mode=exec&pool_max_conns=20",
			dsql.Config{Endpoint: host, Settings: params("sslnegotiation", "postgres", "connect_timeout", "3", "default_query_exec_mode", "exec", "pool_max_conns", "20")}},
		{"address to dial", "postgres://" + host + "?hostaddr=127.0.0.1&port=6432", dsql.Config{Endpoint: host, DialAddress: "127.0.0.1:6432"}},
		{"address to dial, with the default port", "postgres://" + host + "?hostaddr=%3A%3A1", dsql.Config{Endpoint: host, DialAddress: "[::1]:5432"}},
		{"port 5432", "postgres://" + host + "?port=5432", dsql.Config{Endpoint: host}},
		{"the system's CAs", "postgres://" + host + "?sslrootcert=system", dsql.Config{Endpoint: host}},
		{"ampersands too many", "postgres://" + host + "?&search_path=a&&", dsql.Config{Endpoint: host, RuntimeParams: params("search_path", "a")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := dsql.ParseURL(tt.url)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			again, err := dsql.ParseURL(got.URL())
			require.NoError(t, err, got.URL())
			require.Equal(t, got, again)
		})
	}
}

func TestURLIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name, url string
		want      []string // in the error
	}{
		{"empty", "", []string{"endpoint is empty"}},
		{"no host", "postgres:///postgres", []string{"endpoint is empty"}},
		{"other scheme", "mysql://" + host, []string{"postgres://, postgresql:// or dsql://"}},
		{"password", "postgres://app:hunter2@" + host, []string{"password", "tokens are made for you"}},
		{"password parameter", "postgres://" + host + "?password=hunter2", []string{"password", "tokens are made for you"}},
		{"password with a slash", "postgres://app:12/hunter2@" + host, []string{"@ after its host name", "%40"}},
		{"password in keywords and values", "host=" + host + " password=hunter2", []string{"more in it than a host name"}},
		{"password without a scheme", "app:hunter2@" + host, []string{"more in it than a host name"}},
		{"empty role", "postgres://@" + host, []string{"empty role"}},
		{"Admin", "postgres://Admin@" + host, []string{`invalid role "Admin"`}},
		{"other port", "postgres://" + host + ":6432/postgres", []string{`"6432"`, "5432"}},
		{"other database", "postgres://" + host + "/app", []string{`"app"`, "always postgres"}},
		{"longer path", "postgres://" + host + "/postgres/x", []string{"always postgres"}},
		{"two hosts", "postgres://" + host + "," + host + "/postgres", []string{"several hosts"}},
		{"address", "postgres://[::1]/postgres", []string{"address", "WithDialAddress"}},
		{"fragment", "postgres://" + host + "/postgres#x", []string{"fragment"}},
		{"region contradicts", "postgres://" + host + "?region=eu-west-1", []string{`"eu-west-1"`, `"us-east-1"`}},
		{"region that is none", "postgres://" + harness.ClusterID + "?region=mars", []string{`"mars"`}},
		{"empty region", "postgres://" + host + "?region=", []string{"region is empty"}},
		{"empty setting", "postgres://" + host + "?pool_max_conns=", []string{"pool_max_conns is empty"}},
		{"disable", "postgres://" + host + "?sslmode=disable", []string{"disable", "verify-full"}},
		{"allow", "postgres://" + host + "?sslmode=allow", []string{"allow", "verify-full"}},
		{"prefer", "postgres://" + host + "?sslmode=prefer", []string{"prefer", "verify-full"}},
		{"sslmode that is none", "postgres://" + host + "?sslmode=full", []string{`"full"`, "verify-full"}},
		{"token lifetime that is none", "postgres://" + host + "?token_lifetime=900", []string{`"900"`, "15m"}},
		{"token lifetime too long", "postgres://" + host + "?token_lifetime=200h", []string{"200h", "168h"}},
		{"no token lifetime", "postgres://" + host + "?token_lifetime=0s", []string{"0s", "168h"}},
		{"parameter twice", "postgres://" + host + "?search_path=a&search_path=b", []string{`"search_path" twice`}},
		{"broken escape in a value", "postgres://" + host + "?search_path=%zz", []string{`"search_path"`, "%25"}},
		{"unknown parameter", "postgres://" + host + "?search_pth=hunter2", []string{`"search_pth"`, "nearest known one is search_path"}},
		{"missing sslrootcert", "postgres://" + host + "?sslrootcert=/missing.pem", []string{"sslrootcert", "/missing.pem"}},
		{"sslrootcert without a certificate", "postgres://" + host + "?sslrootcert=url_test.go", []string{`sslrootcert "url_test.go"`, "PEM"}},
		{"empty sslrootcert", "postgres://" + host + "?sslrootcert=", []string{"sslrootcert is empty"}},
		{"client certificate", "postgres://" + host + "?sslcert=/x", []string{`"sslcert"`}},
		{"host name to dial", "postgres://" + host + "?hostaddr=localhost", []string{`hostaddr is "localhost"`, "IP address"}},
		{"port alone", "postgres://" + host + "?port=6432", []string{"port is 6432", "hostaddr"}},
		{"user parameter", "postgres://" + host + "?user=eve", []string{"WithUser"}},
		{"dbname parameter", "postgres://" + host + "?dbname=x", []string{"always postgres"}},
		{"refused parameter", "postgres://" + host + "?statement_timeout=3s", []string{"statement_timeout", "deadline"}},
		{"refused parameter in options", "postgres://" + host + "?options=-c%20statement_timeout%3D3s", []string{"statement_timeout", "deadline"}},
		{"NUL in a parameter", "postgres://" + host + "?search_path=%00", []string{"NUL"}},
		{"NUL in the role", "postgres://a%00b@" + host, []string{"NUL"}},
		{"pool_max_conns 0", "postgres://" + host + "?pool_max_conns=0", []string{`pool_max_conns is "0"`, "1 or more"}},
		{"pool_min_conns -1", "postgres://" + host + "?pool_min_conns=-1", []string{`pool_min_conns is "-1"`, "0 or more"}},
		{"pool_min_idle_conns x", "postgres://" + host + "?pool_min_idle_conns=x", []string{`"x"`, "0 or more"}},
		{"connect_timeout 0", "postgres://" + host + "?connect_timeout=0", []string{"whole seconds, 1 or more"}},
		{"connect_timeout 3s", "postgres://" + host + "?connect_timeout=3s", []string{`"3s"`, "whole seconds"}},
		{"connect_timeout too long", "postgres://" + host + "?connect_timeout=99999999999", []string{"whole seconds"}},
		{"health check never", "postgres://" + host + "?pool_health_check_period=0s", []string{"over 0"}},
		{"lifetime 0", "postgres://" + host + "?pool_max_conn_lifetime=0", []string{"over 0"}},
		{"idle time that is none", "postgres://" + host + "?pool_max_conn_idle_time=soon", []string{`"soon"`, "Go duration"}},
		{"negative jitter", "postgres://" + host + "?pool_max_conn_lifetime_jitter=-1s", []string{`"-1s"`, "Go duration"}},
		{"sslnegotiation that is none", "postgres://" + host + "?sslnegotiation=late", []string{`"late"`, "direct or postgres"}},
		{"mode that is none", "postgres://" + host + "?default_query_exec_mode=fast", []string{`"fast"`, "simple_protocol"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := dsql.ParseURL(tt.url)
			require.Error(t, err)
			require.Zero(t, got)
			require.True(t, strings.HasPrefix(err.Error(), "dsql: "), err)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestSettingsOfAURLTakeEffect(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	cfg, err := dsql.ParseURL("postgres://app@" + host + "/postgres?search_path=app&application_name=svc&token_lifetime=1m" +
		"&sslmode=require&sslnegotiation=postgres&connect_timeout=20&default_query_exec_mode=simple_protocol" +
		"&pool_max_conns=7&pool_min_conns=1&pool_min_idle_conns=2&pool_max_conn_lifetime=30m&pool_max_conn_lifetime_jitter=3m" +
		"&pool_max_conn_idle_time=4m&pool_health_check_period=20s")
	require.NoError(t, err)
	for _, opt := range opts {
		require.NoError(t, opt(&cfg))
	}
	c, err := dsql.NewConnector(t.Context(), cfg)
	require.NoError(t, err)
	p := c.PoolConfig()
	require.EqualValues(t, 7, p.MaxConns)
	require.EqualValues(t, 1, p.MinConns)
	require.EqualValues(t, 2, p.MinIdleConns)
	require.Equal(t, 30*time.Minute, p.MaxConnLifetime)
	require.Equal(t, 3*time.Minute, p.MaxConnLifetimeJitter)
	require.Equal(t, 4*time.Minute, p.MaxConnIdleTime)
	require.Equal(t, 20*time.Second, p.HealthCheckPeriod)
	require.Equal(t, 20*time.Second, p.ConnConfig.ConnectTimeout)
	require.Equal(t, pgx.QueryExecModeSimpleProtocol, p.ConnConfig.DefaultQueryExecMode)

	cc, err := c.ConnConfig(t.Context())
	require.NoError(t, err)
	opened, err := pgx.ConnectConfig(t.Context(), cc)
	require.NoError(t, err)
	require.NoError(t, opened.Close(t.Context()))
	conn := s.Conns()[0]
	require.False(t, conn.Direct, "sslnegotiation=postgres")
	require.Equal(t, host, conn.TLS.ServerName)
	require.Equal(t, map[string]string{"user": "app", "database": "postgres", "search_path": "app", "application_name": "svc"}, conn.Parameters)
	_, token := parseToken(t, conn.Password)
	require.Equal(t, "60", token.Get("X-Amz-Expires"))
	require.Equal(t, "DbConnect", token.Get("Action"))
}

func TestLifetimeOfAURLStaysUnderTheSessionLimit(t *testing.T) {
	cfg, err := dsql.ParseURL("postgres://" + host + "?pool_max_conn_lifetime=58m")
	require.NoError(t, err)
	cfg.Credentials = harness.Credentials
	_, err = dsql.NewConnector(t.Context(), cfg)
	require.ErrorContains(t, err, "1h0m0s after which DSQL closes")
}

func TestSettingsAreChecked(t *testing.T) {
	_, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, Settings: map[string]string{"host": "evil"}})
	require.ErrorContains(t, err, `dsql: Settings has no "host"`)
	_, err = dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, Settings: map[string]string{"pool_max_conns": "1 host=evil"}})
	require.ErrorContains(t, err, "dsql: pool_max_conns is")
}

func TestURLLeavesOutWhatItCannotHold(t *testing.T) {
	cfg := dsql.Config{
		Endpoint: " " + strings.ToUpper(host) + " ", User: "app", Credentials: harness.Credentials, DialAddress: "localhost",
		RuntimeParams: map[string]string{"timezone": `Etc/UTC \x`, "datestyle": "ISO", "options": "-c extra_float_digits=1", "search_path": "a b"},
	}
	require.Equal(t, "postgres://app@"+host+"/postgres?options=-c%20extra_float_digits%3D1%20-c%20datestyle%3DISO%20-c%20timezone%3DEtc%2FUTC%5C%20%5C%5Cx&search_path=a%20b", cfg.URL())
	got, err := dsql.ParseURL(cfg.URL())
	require.NoError(t, err)
	require.Equal(t, dsql.Config{Endpoint: host, User: "app", RuntimeParams: map[string]string{
		"search_path": "a b", "options": `-c extra_float_digits=1 -c datestyle=ISO -c timezone=Etc/UTC\ \\x`,
	}}, got)

	require.Empty(t, dsql.Config{Endpoint: "postgres://app:hunter2@" + host}.URL())
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{
		"", host, harness.ClusterID, "postgres://", "postgres://" + host, "dsql://app@" + harness.ClusterID + "?region=us-east-1",
		"postgres://a%2Fb@" + host + ":5432/postgres?search_path=a+b&options=-c%20timezone%3DUTC&token_lifetime=15m&pool_max_conns=3&profile=p",
		"postgres://u:p@" + host + "?x=y#z", "postgres://[::1]:5432/%zz?%zz=%zz", "postgres://@,/?&=&",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		cfg, err := dsql.ParseURL(url)
		if err != nil {
			require.Zero(t, cfg)
			require.True(t, strings.HasPrefix(err.Error(), "dsql: "), err)
			return
		}
		again, err := dsql.ParseURL(cfg.URL())
		require.NoError(t, err, cfg.URL())
		require.Equal(t, cfg, again)
	})
}

func FuzzURLWithAPasswordIsRefusedAndNotShown(f *testing.F) {
	for _, seed := range [][4]string{
		{"app", "", "", host}, {"app", "12/", "?x=", host + "/postgres"}, {"", "#", "@", host + ":6432"}, {"a@b/c", "%", "%zz", "x,y"}, {"a?b=c&", "[", "]", "\x00"}, {"arn", "", ":", host},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, user, before, after, rest string) {
		for _, scheme := range []string{"postgres://", ""} {
			_, err := dsql.ParseURL(scheme + user + ":" + before + "hunter2" + after + "@" + rest)
			require.Error(t, err)
			require.NotContains(t, strings.ReplaceAll(err.Error(), rest, ""), "hunter2")
		}
	})
}
