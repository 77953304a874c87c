package dsqltest

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Codes in place of a protocol version:
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

// Lengths of startup packets that PostgreSQL takes.
const (
	minStartupPacket = 8
	maxStartupPacket = 10000
)

// tlsRecord is the first byte of a ClientHello.
const tlsRecord = 0x16

// startupPacket is what comes before messages have types.
type startupPacket struct {
	raw  []byte // all of it
	code uint32 // protocol version, or a request
}

func (p startupPacket) body() []byte { return p.raw[8:] }

// readStartupPacket reads not a byte too many: what follows may be TLS.
func readStartupPacket(r io.Reader) (startupPacket, error) {
	head := make([]byte, minStartupPacket)
	if _, err := io.ReadFull(r, head); err != nil {
		return startupPacket{}, err
	}
	length := binary.BigEndian.Uint32(head)
	if length < minStartupPacket || length > maxStartupPacket {
		return startupPacket{}, fmt.Errorf("a startup packet of %d bytes", length)
	}
	raw := append(head, make([]byte, length-minStartupPacket)...)
	if _, err := io.ReadFull(r, raw[minStartupPacket:]); err != nil {
		return startupPacket{}, err
	}
	return startupPacket{raw: raw, code: binary.BigEndian.Uint32(raw[4:])}, nil
}

// prefixed is a connection of which some bytes have been read already.
type prefixed struct {
	net.Conn
	r io.Reader
}

func (p prefixed) Read(b []byte) (int, error) { return p.r.Read(b) }

// secure brings a connection to TLS, at once or after an SSLRequest.
func (l *listener) secure(raw net.Conn) (*tls.Conn, error) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(raw, first); err != nil {
		return nil, err
	}
	conn := prefixed{raw, io.MultiReader(bytes.NewReader(first), raw)}
	if first[0] == tlsRecord {
		return l.direct(conn)
	}
	for {
		packet, err := readStartupPacket(conn)
		if err != nil {
			return nil, err
		}
		switch packet.code {
		case sslRequest:
			if _, err := raw.Write([]byte("S")); err != nil {
				return nil, err
			}
			client := tls.Server(conn, l.tls)
			return client, client.Handshake()
		case gssEncRequest:
			if _, err := raw.Write([]byte("N")); err != nil {
				return nil, err
			}
		case cancelRequest:
			return nil, errors.New("a cancel request in clear")
		default:
			refusal := Refusal{Code: connectionFailure, Message: "unable to accept connection, ssl is required"}
			refusal.send(raw)
			return nil, errors.New("a startup message in clear")
		}
	}
}

// direct is TLS without an SSLRequest before it. Like PostgreSQL 17, it insists
// on ALPN, so that no other protocol's client can be led here.
func (l *listener) direct(conn net.Conn) (*tls.Conn, error) {
	client := tls.Server(conn, l.tls)
	if err := client.Handshake(); err != nil {
		return nil, err
	}
	if client.ConnectionState().NegotiatedProtocol != alpn {
		l.refuse(client, &Refusal{Reason: "TLS was begun at once, without ALPN \"postgresql\""})
		client.Close()
		return nil, errors.New("direct TLS without ALPN")
	}
	return client, nil
}

// startup is a startup message that has been read.
type startup struct {
	minor      uint32            // of protocol 3
	parameters map[string]string // user, database and options among them
	extensions []string          // names of protocol extensions that were asked for
	clusterID  string            // from the option amzn-cluster-id, which is not passed on
}

func parseStartup(packet startupPacket) (startup, *Refusal) {
	major, minor := packet.code>>16, packet.code&0xffff
	if major != 3 {
		return startup{}, &Refusal{
			Reason:  fmt.Sprintf("the client speaks protocol %d.%d", major, minor),
			Code:    featureNotSupported,
			Message: fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.0", major, minor),
		}
	}
	s := startup{minor: minor, parameters: make(map[string]string)}
	fields := strings.Split(string(packet.body()), "\x00")
	// Each string ends in a NUL, and one more ends the list: two empty fields.
	pairs := len(fields) - 2
	if pairs < 0 || pairs%2 != 0 || fields[pairs] != "" || fields[pairs+1] != "" {
		return startup{}, &Refusal{
			Reason:  "the startup message is not a list of names and values",
			Code:    protocolViolation,
			Message: "invalid startup packet layout: expected terminator as last byte",
		}
	}
	for pair := range slices.Chunk(fields[:pairs], 2) {
		name, value := pair[0], pair[1]
		if strings.HasPrefix(name, "_pq_.") {
			s.extensions = append(s.extensions, name)
			continue
		}
		s.parameters[name] = value
	}
	s.takeClusterID()
	return s, nil
}

// takeClusterID takes the setting amzn-cluster-id out of the options: it is for
// DSQL's front, and PostgreSQL does not know it.
func (s *startup) takeClusterID() {
	var kept []string
	args := splitOptions(s.parameters["options"])
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "-c" && i+1 < len(args) {
			i++
			arg += args[i] // means the same
		}
		if id, ok := strings.CutPrefix(arg, "-camzn-cluster-id="); ok {
			s.clusterID = id
		} else if id, ok := strings.CutPrefix(arg, "--amzn-cluster-id="); ok {
			s.clusterID = id
		} else {
			kept = append(kept, arg)
		}
	}
	if s.clusterID != "" {
		s.parameters["options"] = strings.Join(kept, " ")
	}
}

// settings are the names of the parameters that the client sets.
func (s startup) settings() []string {
	var names []string
	for name := range s.parameters {
		if !slices.Contains([]string{"user", "database", "options", "replication"}, name) {
			names = append(names, name)
		}
	}
	args := splitOptions(s.parameters["options"])
	for i, arg := range args {
		setting, ok := strings.CutPrefix(arg, "--")
		switch {
		case ok:
		case arg == "-c" && i+1 < len(args):
			setting = args[i+1]
		case strings.HasPrefix(arg, "-c"):
			setting = arg[len("-c"):]
		}
		if name, _, ok := strings.Cut(setting, "="); ok {
			names = append(names, strings.ReplaceAll(name, "-", "_"))
		}
	}
	slices.Sort(names)
	return names
}

// splitOptions splits at white space that no backslash is before. Backslashes
// stay: the engine splits once more.
func splitOptions(options string) []string {
	var args []string
	var arg strings.Builder
	escaped := false
	for i := range len(options) {
		c := options[i]
		if !escaped && strings.IndexByte(" \t\n\r\v\f", c) >= 0 {
			if arg.Len() > 0 {
				args = append(args, arg.String())
				arg.Reset()
			}
			continue
		}
		escaped = !escaped && c == '\\'
		arg.WriteByte(c)
	}
	if arg.Len() > 0 {
		args = append(args, arg.String())
	}
	return args
}

// negotiate tells a client that asked for more than protocol 3.0 that this is
// all there is.
func (s startup) negotiate(client io.Writer) error {
	if s.minor == 0 && len(s.extensions) == 0 {
		return nil
	}
	return send(client, &pgproto3.NegotiateProtocolVersion{
		NewestMinorProtocol: pgproto3.ProtocolVersion30, // the whole version, as PostgreSQL does
		UnrecognizedOptions: s.extensions,
	})
}
