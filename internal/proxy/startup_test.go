package proxy

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

func TestNewerProtocolsAreNegotiatedDown(t *testing.T) {
	c := start(t)
	for name, test := range map[string]struct {
		version uint32
		fields  []string
		unknown []string
	}{
		"3.2":            {pgproto3.ProtocolVersion32, nil, nil},
		"3.9999":         {3<<16 | 9999, nil, nil},
		"an extension":   {pgproto3.ProtocolVersion30, []string{"_pq_.compression", "on"}, []string{"_pq_.compression"}},
		"both, and more": {pgproto3.ProtocolVersion32, []string{"_pq_.a", "1", "_pq_.b", "2"}, []string{"_pq_.a", "_pq_.b"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, c)
			w.send(packet(test.version, append([]string{"user", "admin", "database", "postgres"}, test.fields...)...))
			message, err := w.Receive()
			require.NoError(t, err)
			negotiate := message.(*pgproto3.NegotiateProtocolVersion)
			require.EqualValues(t, pgproto3.ProtocolVersion30, negotiate.NewestMinorProtocol)
			require.ElementsMatch(t, test.unknown, negotiate.UnrecognizedOptions)
			w.requirePasswordRequest()
			w.password(signToken(t, c, "admin"))
			w.requireReady()
		})
	}

	cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
	cfg.MaxProtocolVersion = "latest"
	_, err := login(t, cfg)
	require.NoError(t, err)
}

func TestMalformedStartupMessages(t *testing.T) {
	c := start(t)
	tests := map[string]struct {
		bytes         []byte
		code, message string
		reason        string
	}{
		"protocol 2": {packet(2 << 16), "0A000", "unsupported frontend protocol 2.0: server supports 3.0 to 3.0", "startup: protocol version 2.0"},
		"no user":    {packet(pgproto3.ProtocolVersion30, "database", "postgres"), "28000", "no PostgreSQL user name specified in startup packet", "names no user"},
		"empty user": {packet(pgproto3.ProtocolVersion30, "user", ""), "28000", "no PostgreSQL user name specified in startup packet", "names no user"},
		"odd list":   {packet(pgproto3.ProtocolVersion30, "user"), "08P01", "invalid startup packet layout: expected terminator as last byte", "not a list of names and values"},
		"no list":    {[]byte("\x00\x00\x00\x08\x00\x03\x00\x00"), "08P01", "invalid startup packet layout: expected terminator as last byte", "not a list of names and values"},
		"a request within TLS": {binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, sslRequest), "0A000",
			"unsupported frontend protocol 1234.5679: server supports 3.0 to 3.0", "startup: protocol version 1234.5679"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, c)
			w.send(test.bytes)
			w.requireFatal(test.code, test.message)
			require.Equal(t, test.code, requireReason(t, c, test.reason).Code)
		})
	}
}

func TestStartupParametersReachPostgreSQL(t *testing.T) {
	c := start(t)
	cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
	cfg.RuntimeParams = map[string]string{
		"application_name": "my app",
		"search_path":      "a, public",
		"options":          `-c amzn-cluster-id=` + c.cfg.ID + ` -c extra_float_digits=2 -c DateStyle=SQL,\ DMY`,
	}
	conn, err := login(t, cfg)
	require.NoError(t, err)
	for name, want := range map[string]string{"application_name": "my app", "search_path": "a, public", "extra_float_digits": "2", "DateStyle": "SQL, DMY"} {
		result := conn.ExecParams(t.Context(), "SHOW "+name, nil, nil, nil, nil).Read()
		require.NoError(t, result.Err)
		require.Equal(t, want, string(result.Rows[0][0]))
	}
}

func TestRefusalByPostgreSQLIsForwarded(t *testing.T) {
	c := start(t)
	cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
	cfg.RuntimeParams = map[string]string{"datestyle": "nonsense"}
	_, err := login(t, cfg)
	requireRefusal(t, err, "22023", `invalid value for parameter "DateStyle": "nonsense"`)
}

func TestUnsupportedStartupParametersAreRefused(t *testing.T) {
	c := start(t)
	for name, value := range map[string]string{"statement_timeout": "1000", "options": "-c search_path=app --statement-timeout=1000", "Statement_Timeout": "0"} {
		cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
		cfg.RuntimeParams = map[string]string{name: value}
		_, err := login(t, cfg)
		var refusal *pgconn.PgError
		require.ErrorAs(t, err, &refusal, name)
		require.Equal(t, "0A000", refusal.Code)
		require.Equal(t, `setting configuration parameter "statement_timeout" not supported`, strings.ToLower(refusal.Message))
	}
}

func TestClusterIDIsRemovedFromTheOptions(t *testing.T) {
	tests := map[string]struct{ options, id, rest string }{
		"none":            {"", "", ""},
		"others stay":     {"-c  a=b\t--c=d", "", "-c  a=b\t--c=d"},
		"alone":           {"-c amzn-cluster-id=x", "x", ""},
		"without a space": {"-camzn-cluster-id=x", "x", ""},
		"long":            {"--amzn-cluster-id=x", "x", ""},
		"between others":  {"-c a=b -c amzn-cluster-id=x --e-f=g", "x", "-c a=b -c e_f=g"},
		"escaped values":  {`-c a=b\ c\\ -c amzn-cluster-id=x`, "x", `-c a=b\ c\\`},
		"the last wins":   {"-c amzn-cluster-id=x -c amzn-cluster-id=y", "y", ""},
		"no setting":      {"amzn-cluster-id=x", "", "amzn-cluster-id=x"},
		"within a value":  {`-c a=\ -camzn-cluster-id=x`, "", `-c a=\ -camzn-cluster-id=x`},
		"other switches":  {"-S 64 -c amzn-cluster-id=x", "x", "-c work_mem=64"},
		"malformed":       {"-c amzn-cluster-id=x -c", "x", "-c amzn-cluster-id=x -c"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := startup{parameters: map[string]string{"options": test.options}}
			s.parseOptions()
			require.Equal(t, test.id, s.clusterID)
			require.Equal(t, test.rest, s.parameters["options"])
		})
	}
}

func TestParametersOfOtherSwitchesAreRefused(t *testing.T) {
	c := start(t)
	for options, name := range map[string]string{"-S 64": "work_mem", "-d3": "client_min_messages", "-es": "log_statement_stats"} {
		cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
		cfg.RuntimeParams = map[string]string{"options": options}
		_, err := login(t, cfg)
		requireRefusal(t, err, "0A000", `setting configuration parameter "`+name+`" not supported`)
	}
}

func TestMalformedStartupOptionsAreRefused(t *testing.T) {
	c := start(t)
	for options, message := range map[string]string{
		"-c":            "invalid command-line argument for server process: -c",
		"search_path=a": "invalid command-line argument for server process: search_path=a",
		"-c a":          "-c a requires a value",
	} {
		cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
		cfg.RuntimeParams = map[string]string{"options": options}
		_, err := login(t, cfg)
		requireRefusal(t, err, "42601", message)
		requireReason(t, c, "startup: options: "+message)
	}
}

func FuzzParseStartup(f *testing.F) {
	f.Add(packet(pgproto3.ProtocolVersion30, "user", "admin", "options", `-c a=b\ -c amzn-cluster-id=x`))
	f.Add(packet(pgproto3.ProtocolVersion32, "_pq_.a", "b"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		packet, err := readStartupPacket(strings.NewReader(string(raw)))
		if err != nil {
			return
		}
		s, refusal := parseStartup(packet)
		for name, value := range s.parameters {
			if strings.Contains(name+value, "\x00") {
				t.Fatalf("a NUL in %q or %q", name, value)
			}
		}
		if refusal == nil && s.parameters == nil {
			t.Fatal("neither parameters nor a refusal")
		}
	})
}

// PostgreSQL's own limit must not look like a quota of the cluster.
func TestPostgreSQLsConnectionLimitIsNamed(t *testing.T) {
	c := start(t, withRole("limited"))
	require.NoError(t, c.cfg.Server.Exec(t.Context(), c.cfg.Database, "ALTER ROLE limited CONNECTION LIMIT 0"))
	_, err := dsql.Connect(t.Context(), c.Endpoint(), "", append(c.Options(), dsql.WithUser("limited"))...)
	var told *pgconn.PgError
	require.ErrorAs(t, err, &told)
	require.Equal(t, "53000", told.Code)
	require.Contains(t, told.Message, "dsqltest: the PostgreSQL server behind the clusters of this process has no connection left: too many connections")
	require.False(t, dsql.IsConnectLimit(err))
}
