package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func TestBothFormsOfATokenAreAccepted(t *testing.T) {
	c := start(t, withRole("app"))
	for _, user := range []string{"admin", "app"} {
		slash := signToken(t, c, user)
		require.Contains(t, slash, "/?")
		for _, form := range []string{slash, strings.Replace(slash, "/?", "?", 1)} {
			conn, err := login(t, pgConfig(t, c, user, form))
			require.NoError(t, err)
			result := conn.ExecParams(t.Context(), "SELECT current_user", nil, nil, nil, nil).Read()
			require.NoError(t, result.Err)
			require.Equal(t, user, string(result.Rows[0][0]))
		}
	}
	_, refused := c.LastRefusal()
	require.False(t, refused)
}

func TestRefusedTokens(t *testing.T) {
	c := start(t, withRole("app"))
	other := start(t, withRole("onlythere"))
	action := func(v string) func(*request) {
		return func(r *request) { r.query.Set("Action", v) }
	}
	host := func(v string) func(*request) {
		return func(r *request) { r.host = v }
	}
	expires := func(v string) func(*request) {
		return func(r *request) { r.query.Set("X-Amz-Expires", v) }
	}
	tests := map[string]struct {
		user   string
		change func(*request)
		code   string
		hint   string // the whole hint, or its beginning if it ends in a space
		reason string
	}{
		"admin with DbConnect": {"admin", action("DbConnect"), "08006",
			"Wrong user to action mapping. user: admin, action: DbConnect", `token: action: signed for "DbConnect", the role needs "DbConnectAdmin"`},
		"a role with DbConnectAdmin": {"app", action("DbConnectAdmin"), "08006",
			"Wrong user to action mapping. user: app, action: DbConnectAdmin", `token: action: signed for "DbConnectAdmin", the role needs "DbConnect"`},
		"expired": {"admin", func(r *request) { r.at = r.at.Add(-16 * time.Minute) }, "08006",
			"Signature expired: ", "token: expired: expired at "},
		"not yet valid": {"admin", func(r *request) { r.at = r.at.Add(6 * time.Minute) }, "08006",
			"", "token: not yet valid: signed at "},
		"no action":         {"admin", func(r *request) { r.query.Del("Action") }, "08006", "", "token: shape: no parameter Action"},
		"over a week":       {"admin", expires("604801"), "08006", "", `token: expires: "604801" is not whole seconds`},
		"negative lifetime": {"admin", expires("-60"), "08006", "", `token: expires: "-60" is not whole seconds`},
		"for RDS": {"admin", func(r *request) { r.service = "rds-db"; r.query.Set("DBUser", "admin") }, "08006",
			"", `token: service: signed for "rds-db", not "dsql"`},
		"other region": {"admin", func(r *request) { r.region = "eu-west-1" }, "08006",
			"", `token: region: signed for "eu-west-1", the cluster is in "us-east-1"`},
		"other cluster's host":   {"admin", host(other.Endpoint()), "08006", "", `token: host: signed for "` + other.Endpoint()},
		"host with a port":       {"admin", host(c.Endpoint() + ":5432"), "08006", "", `token: host: signed for "` + c.Endpoint() + `:5432"`},
		"other cluster's keys":   {"admin", func(r *request) { r.creds = other.cfg.Credentials() }, "08006", "", "token: access key: "},
		"wrong secret key":       {"admin", func(r *request) { r.creds.SecretAccessKey += "x" }, "08006", "", "token: signature: "},
		"a session token":        {"admin", func(r *request) { r.creds.SessionToken = "SECRET" }, "08006", "", "token: session token: present"},
		"a parameter more":       {"admin", func(r *request) { r.query.Set("DBUser", "admin") }, "08006", "", `token: query: "DBUser" is not`},
		"no such role":           {"nobody", nil, "28000", "", `role: "nobody" does not exist; use dsqltest.WithRole`},
		"a role of elsewhere":    {"onlythere", nil, "28000", "", `role: "onlythere" does not exist; use dsqltest.WithRole`},
		"PostgreSQL's superuser": {"postgres", nil, "28000", "", `role: "postgres" does not exist; use dsqltest.WithRole`},
		"admin in upper case":    {"Admin", nil, "28000", "", `role: "Admin" does not exist; use dsqltest.WithRole`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var changes []func(*request)
			if test.change != nil {
				changes = append(changes, test.change)
			}
			_, err := login(t, pgConfig(t, c, test.user, signToken(t, c, test.user, changes...)))
			told := requireRefusal(t, err, test.code, "unable to accept connection, access denied")
			if strings.HasSuffix(test.hint, " ") {
				require.Regexp(t, "^"+test.hint+`\d{8}T\d{6}Z is now earlier than \d{8}T\d{6}Z$`, told.Hint)
			} else {
				require.Equal(t, test.hint, told.Hint)
			}
			refusal := requireReason(t, c, test.reason)
			require.Equal(t, Refusal{Reason: refusal.Reason, Code: told.Code, Message: told.Message, Hint: told.Hint, User: test.user}, refusal)
			require.NotContains(t, refusal.Reason, "SECRET")
		})
	}
	_, refused := other.LastRefusal()
	require.False(t, refused)
}

func TestIsAccessDeniedMatchesARefusal(t *testing.T) {
	c := start(t)
	_, err := dsql.Connect(t.Context(), c.Endpoint(), "", append(c.Options(), dsql.WithUser("app"))...)
	require.True(t, dsql.IsAccessDenied(err), err)
	requireReason(t, c, `role: "app" does not exist`)
}

func TestPasswordIsRefusedAndNotShown(t *testing.T) {
	c := start(t)
	_, err := login(t, pgConfig(t, c, "admin", "s3cr3t?s3cr3t=s3cr3t"))
	requireRefusal(t, err, "08006", "unable to accept connection, access denied")
	refusal := requireReason(t, c, "token: shape: no parameter Action")
	require.NotContains(t, refusal.Reason, "s3cr3t")
}

func TestTokenOfAnotherClusterIsRefused(t *testing.T) {
	a, b := start(t), start(t)
	_, err := login(t, pgConfig(t, b, "admin", signToken(t, a, "admin")))
	requireRefusal(t, err, "08006", "unable to accept connection, access denied")
	requireReason(t, b, "token: host: ")
}

func TestOtherDatabasesAreRefused(t *testing.T) {
	c := start(t)
	for _, name := range []string{"app", "Postgres", "template1", c.cfg.Database} {
		cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
		cfg.Database = name
		_, err := login(t, cfg)
		requireRefusal(t, err, "3D000", `database "`+name+`" does not exist`)
		requireReason(t, c, `database: "`+name+`" was requested, the only one is "postgres"`)
	}
	w := dialWire(t, c)
	w.startup("user", "admin")
	w.requirePasswordRequest()
	w.password(signToken(t, c, "admin"))
	w.requireFatal("3D000", `database "admin" does not exist`)
}

func TestMalformedPasswordMessages(t *testing.T) {
	message := func(kind byte, body string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
	}
	tests := map[string]struct {
		bytes   []byte
		message string
		reason  string
	}{
		"empty":               {message('p', "\x00"), "invalid password packet size", "password: it is empty"},
		"nothing":             {message('p', ""), "invalid password packet size", "password: its NUL is not at its end"},
		"no end":              {message('p', "token"), "invalid password packet size", "password: its NUL is not at its end"},
		"two of them":         {message('p', "to\x00ken\x00"), "invalid password packet size", "password: its NUL is not at its end"},
		"shorter than length": {[]byte{'p', 0, 0, 0, 3}, "invalid password packet size", "password: its message is 3 bytes long"},
		"endless":             {[]byte{'p', 255, 255, 255, 255}, "invalid password packet size", "password: its message is 4294967295 bytes long"},
		"a query":             {message('Q', "SELECT 1\x00"), "expected password response, got message type 81", `password: the client sent a message of type 'Q' instead`},
	}
	c := start(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, c)
			w.startup("user", "admin", "database", "postgres")
			w.requirePasswordRequest()
			w.send(test.bytes)
			w.requireFatal("08P01", test.message)
			requireReason(t, c, test.reason)
		})
	}
}

func TestLongPassword(t *testing.T) {
	c := start(t)
	_, err := login(t, pgConfig(t, c, "admin", strings.Repeat("x", 200_000)))
	requireRefusal(t, err, "08006", "unable to accept connection, access denied")
	requireReason(t, c, "token: shape: 200000 bytes without the ?")
}

func TestDisconnectIsNotARefusal(t *testing.T) {
	c := start(t)
	w := dialWire(t, c)
	w.startup("user", "admin", "database", "postgres")
	w.requirePasswordRequest()
	w.send([]byte{'p', 0, 0})
	require.NoError(t, w.Conn.Close())
	require.NoError(t, newPool(t, c).Ping(context.Background()))
	_, refused := c.LastRefusal()
	require.False(t, refused)
}

func TestReadPasswordReadsNoMore(t *testing.T) {
	r := bytes.NewReader([]byte("p\x00\x00\x00\x07ab\x00rest"))
	password, refusal, err := readPassword(r)
	require.NoError(t, err)
	require.Nil(t, refusal)
	require.Equal(t, "ab", password)
	require.Equal(t, 4, r.Len())
}

func TestConnectAsACustomRole(t *testing.T) {
	c := start(t, withRole("app"))
	conn, err := dsql.Connect(t.Context(), c.Endpoint(), "", append(c.Options(), dsql.WithUser("app"))...)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var user string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_user").Scan(&user))
	require.Equal(t, "app", user)
}

func TestTokenIsForTheSNIHostname(t *testing.T) {
	c := start(t)
	w := dialWire(t, c, func(cfg *tls.Config) { cfg.ServerName = c.cfg.ID + ".dsql-fnh4.us-east-1.on.aws" })
	w.startup("user", "admin", "database", "postgres")
	w.requirePasswordRequest()
	w.password(signToken(t, c, "admin"))
	w.requireFatal("08006", "unable to accept connection, access denied")
	requireReason(t, c, `token: host: signed for "`+c.Endpoint()+`", the cluster was reached as "`+c.cfg.ID+".dsql-fnh4.us-east-1.on.aws")
}
