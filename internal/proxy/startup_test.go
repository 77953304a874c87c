package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

func dialPlain(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

// ask sends a request in clear and returns the one byte that answers it.
func ask(t *testing.T, conn net.Conn, code uint32) string {
	t.Helper()
	_, err := conn.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code))
	require.NoError(t, err)
	answer := make([]byte, 1)
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	return string(answer)
}

func TestTLSAfterNegotiation(t *testing.T) {
	c := start(t)
	for name, requests := range map[string][]uint32{
		"SSLRequest":                   {sslRequest},
		"GSSENCRequest and SSLRequest": {gssEncRequest, sslRequest},
	} {
		t.Run(name, func(t *testing.T) {
			raw := dialPlain(t, c.Address())
			for _, code := range requests {
				want := map[uint32]string{sslRequest: "S", gssEncRequest: "N"}[code]
				require.Equal(t, want, ask(t, raw, code))
			}
			conn := tls.Client(raw, &tls.Config{ServerName: c.Endpoint(), RootCAs: roots(c)}) // no ALPN: only direct TLS needs it
			w := wire{t, conn, pgproto3.NewFrontend(conn, conn)}
			w.startup("user", "admin", "database", "postgres")
			w.requirePasswordRequest()
			w.password(signToken(t, c, "admin"))
			w.requireReady()
		})
	}
}

func TestDirectTLSNeedsALPN(t *testing.T) {
	c := start(t)
	w := dialWire(t, c, func(cfg *tls.Config) { cfg.NextProtos = nil })
	w.requireClosed()
	require.Empty(t, requireReason(t, c, `without ALPN "postgresql"`).Message)

	_, err := dialTLS(t, c, func(cfg *tls.Config) { cfg.NextProtos = []string{"http/1.1"} })
	require.ErrorContains(t, err, "no application protocol")
}

func TestTLSVersions(t *testing.T) {
	c := start(t)
	for version, taken := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := dialTLS(t, c, func(cfg *tls.Config) { cfg.MinVersion, cfg.MaxVersion = version, version })
		if !taken {
			require.ErrorContains(t, err, "protocol version not supported")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, version, conn.ConnectionState().Version)
	}
}

func TestTLSSessionsAreResumed(t *testing.T) {
	c := start(t)
	cache := tls.NewLRUClientSessionCache(1)
	for _, resumed := range []bool{false, true, true} {
		w := dialWire(t, c, func(cfg *tls.Config) { cfg.ClientSessionCache = cache })
		w.startup("user", "admin", "database", "postgres")
		w.requirePasswordRequest()
		require.Equal(t, resumed, w.ConnectionState().DidResume)
	}
}

func TestCertificates(t *testing.T) {
	c := start(t, withRegion("ap-northeast-1"))
	privateLink := c.cfg.ID + ".dsql-fnh4.ap-northeast-1.on.aws"
	for name, domain := range map[string]string{
		c.Endpoint():                  "*.dsql.ap-northeast-1.on.aws",
		strings.ToUpper(c.Endpoint()): "*.dsql.ap-northeast-1.on.aws",
		privateLink:                   "*.dsql-fnh4.ap-northeast-1.on.aws",
	} {
		conn, err := dialTLS(t, c, func(cfg *tls.Config) { cfg.ServerName = name })
		require.NoError(t, err)
		require.Equal(t, []string{domain}, conn.ConnectionState().PeerCertificates[0].DNSNames)
	}
	// A name that is no cluster's gets what the real server has: its own.
	_, err := dialTLS(t, c, func(cfg *tls.Config) { cfg.ServerName = "vpce-1.dsql-fnh4.us-east-1.vpce.amazonaws.com" })
	var mismatch x509.HostnameError
	require.ErrorAs(t, err, &mismatch)
	require.Equal(t, []string{"*.dsql.us-east-1.on.aws"}, mismatch.Certificate.DNSNames)
	// Nobody else is trusted, and nobody trusts it unasked.
	_, err = dialTLS(t, c, func(cfg *tls.Config) { cfg.RootCAs = x509.NewCertPool() })
	require.ErrorAs(t, err, &x509.UnknownAuthorityError{})
}

func TestTheClusterIsFoundBySNIOrOption(t *testing.T) {
	c := start(t, withRegion("eu-central-1"))
	const (
		vpce       = "vpce-0123-abcd.dsql-fnh4.eu-central-1.vpce.amazonaws.com"
		invalid    = "unable to accept connection, invalid sni"
		none       = "unable to accept connection, sni was not received"
		otherID    = "abcdefghijklmnopqrstuvwxyz"
		publicTail = ".dsql.eu-central-1.on.aws"
	)
	privateLink := c.cfg.ID + ".dsql-fnh4.eu-central-1.on.aws"
	option := "-c amzn-cluster-id=" + c.cfg.ID
	tests := map[string]struct {
		sni     string
		options string
		signed  string // the name that a token must be for
		refusal string // or the refusal
	}{
		"endpoint":                      {c.Endpoint(), "", c.Endpoint(), ""},
		"endpoint in upper case":        {strings.ToUpper(c.Endpoint()), "", c.Endpoint(), ""},
		"PrivateLink name":              {privateLink, "", privateLink, ""},
		"endpoint and another's option": {c.Endpoint(), "-c amzn-cluster-id=" + otherID, c.Endpoint(), ""},
		"vpce name and option":          {vpce, option, c.Endpoint(), ""},
		"no name and option":            {"", option, c.Endpoint(), ""},
		"no name and option run on":     {"", "-camzn-cluster-id=" + c.cfg.ID, c.Endpoint(), ""},
		"no name and long option":       {"", "--amzn-cluster-id=" + c.cfg.ID, c.Endpoint(), ""},
		"other options around it":       {vpce, "-c search_path=a " + option + " -c extra_float_digits=2", c.Endpoint(), ""},
		"no name":                       {"", "", "", none},
		"no name and other option":      {"", "-c search_path=app", "", none},
		"no name and another's option":  {"", "-c amzn-cluster-id=" + otherID, "", invalid},
		"vpce name":                     {vpce, "", "", invalid},
		"vpce name, another's option":   {vpce, "-c amzn-cluster-id=" + otherID, "", invalid},
		"another cluster":               {otherID + publicTail, "", "", invalid},
		"another region":                {c.cfg.ID + ".dsql.us-east-1.on.aws", "", "", invalid},
		"another service":               {c.cfg.ID + ".rds.eu-central-1.on.aws", "", "", invalid},
		"another domain":                {c.cfg.ID + ".dsql.eu-central-1.amazonaws.com", "", "", invalid},
		"a label more":                  {"x." + c.Endpoint(), "", "", invalid},
		"localhost":                     {"localhost", "", "", invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, c, func(cfg *tls.Config) { cfg.ServerName, cfg.InsecureSkipVerify = test.sni, true })
			w.startup("user", "admin", "database", "postgres", "options", test.options)
			if test.refusal != "" {
				w.requireFatal("08006", test.refusal)
				return
			}
			w.requirePasswordRequest()
			w.password(signToken(t, c, "admin", func(r *request) { r.host = test.signed }))
			w.requireReady()
		})
	}
	_, refused := c.LastRefusal()
	require.False(t, refused)
}

func TestATokenIsForTheNameThatTheClientCameBy(t *testing.T) {
	c := start(t)
	w := dialWire(t, c, func(cfg *tls.Config) { cfg.ServerName = c.cfg.ID + ".dsql-fnh4.us-east-1.on.aws" })
	w.startup("user", "admin", "database", "postgres")
	w.requirePasswordRequest()
	w.password(signToken(t, c, "admin"))
	w.requireFatal("08006", "unable to accept connection, access denied")
	requireReason(t, c, `token: host: signed for "`+c.Endpoint()+`", the cluster was reached as "`+c.cfg.ID+".dsql-fnh4.us-east-1.on.aws")
}

func TestWhatIsNotTLSIsRefused(t *testing.T) {
	c := start(t)
	t.Run("a startup message", func(t *testing.T) {
		conn := dialPlain(t, c.Address())
		_, err := conn.Write(packet(pgproto3.ProtocolVersion30, "user", "admin", "database", "postgres"))
		require.NoError(t, err)
		message, err := pgproto3.NewFrontend(conn, conn).Receive()
		require.NoError(t, err)
		refusal := message.(*pgproto3.ErrorResponse)
		require.Equal(t, "FATAL", refusal.Severity)
		require.Equal(t, "08006", refusal.Code)
		require.Equal(t, "unable to accept connection, ssl is required", refusal.Message)
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
	for name, bytes := range map[string]string{
		"a cancel request":   "\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02",
		"an HTTP request":    "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"a short packet":     "\x00\x00\x00\x07\x04\xd2\x16",
		"a packet too long":  "\x00\x00\x27\x11\x00\x03\x00\x00",
		"TLS after garbage":  "x\x16\x03\x01\x02\x00\x01\x00",
		"TLS that is broken": "\x16\x03\x01\x00\x04abcd",
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialPlain(t, c.Address())
			_, err := conn.Write([]byte(bytes))
			require.NoError(t, err)
			_ = conn.(*net.TCPConn).CloseWrite() // it may be cut already
			_, err = io.Copy(io.Discard, conn)   // to its end, not to the deadline
			if err != nil {
				require.ErrorContains(t, err, "reset by peer")
			}
		})
	}
	require.NoError(t, newPool(t, c).Ping(t.Context()))
}

func TestAHandshakeMayNotTakeForEver(t *testing.T) {
	c := start(t)
	impatient, err := listen(50 * time.Millisecond)
	require.NoError(t, err)
	t.Cleanup(impatient.close)
	impatient.mu.Lock()
	impatient.proxies[c.cfg.ID] = c.Proxy
	impatient.mu.Unlock()

	steps := map[string]func(net.Conn){
		"nothing":      func(net.Conn) {},
		"SSLRequest":   func(raw net.Conn) { require.Equal(t, "S", ask(t, raw, sslRequest)) },
		"half a hello": func(raw net.Conn) { raw.Write([]byte{tlsRecord, 3, 1}) },
		"TLS": func(raw net.Conn) {
			require.NoError(t, tls.Client(raw, &tls.Config{ServerName: c.Endpoint(), RootCAs: roots(c), NextProtos: []string{alpn}}).Handshake())
		},
		"startup message": func(raw net.Conn) {
			conn := tls.Client(raw, &tls.Config{ServerName: c.Endpoint(), RootCAs: roots(c), NextProtos: []string{alpn}})
			w := wire{t, conn, pgproto3.NewFrontend(conn, conn)}
			w.startup("user", "admin", "database", "postgres")
			w.requirePasswordRequest()
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			raw := dialPlain(t, impatient.net.Addr().String())
			step(raw)
			_, err := io.Copy(io.Discard, raw)
			if err != nil {
				require.ErrorContains(t, err, "reset by peer")
			}
		})
	}
}

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

func TestStartupMessagesThatPostgreSQLRefuses(t *testing.T) {
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

func TestStartupParametersReachTheEngine(t *testing.T) {
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

func TestTheEnginesRefusalIsPassedOn(t *testing.T) {
	c := start(t)
	cfg := pgConfig(t, c, "admin", signToken(t, c, "admin"))
	cfg.RuntimeParams = map[string]string{"datestyle": "nonsense"}
	_, err := login(t, cfg)
	requireRefusal(t, err, "22023", `invalid value for parameter "DateStyle": "nonsense"`)
}

func TestStartupParametersThatDSQLDoesNotTakeAreRefused(t *testing.T) {
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
