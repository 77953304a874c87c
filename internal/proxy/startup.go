package proxy

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/params"
)

// Request codes that stand in place of a protocol version:
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

// Lengths of startup packets that PostgreSQL accepts.
const (
	minStartupPacket = 8
	maxStartupPacket = 10000
)

// startupPacket is a message without a type byte, as sent before the session starts.
type startupPacket struct {
	raw  []byte // the whole packet
	code uint32 // protocol version or request code
}

func (p startupPacket) body() []byte { return p.raw[8:] }

// readStartupPacket reads one packet and not a byte more: what follows may be TLS.
func readStartupPacket(r io.Reader) (startupPacket, error) {
	head := make([]byte, minStartupPacket)
	if _, err := io.ReadFull(r, head); err != nil {
		return startupPacket{}, err
	}
	length := binary.BigEndian.Uint32(head)
	if length < minStartupPacket || length > maxStartupPacket {
		return startupPacket{}, fmt.Errorf("startup packet of %d bytes", length)
	}
	raw := append(head, make([]byte, length-minStartupPacket)...)
	if _, err := io.ReadFull(r, raw[minStartupPacket:]); err != nil {
		return startupPacket{}, err
	}
	return startupPacket{raw: raw, code: binary.BigEndian.Uint32(raw[4:])}, nil
}

// startup is a parsed startup message.
type startup struct {
	minor      uint32            // of protocol 3
	parameters map[string]string // user, database and options among them
	extensions []string          // names of the protocol extensions requested
	options    []params.Option   // parsed from parameters["options"]
	optionsErr error             // why the rest of them cannot be parsed
	clusterID  string            // from the option amzn-cluster-id, which is not forwarded
}

func parseStartup(packet startupPacket) (startup, *Refusal) {
	major, minor := packet.code>>16, packet.code&0xffff
	if major != 3 {
		return startup{}, &Refusal{
			Reason:  fmt.Sprintf("startup: protocol version %d.%d", major, minor),
			Code:    featureNotSupported,
			Message: fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.0", major, minor),
		}
	}
	s := startup{minor: minor, parameters: make(map[string]string)}
	fields := strings.Split(string(packet.body()), "\x00")
	// Each string ends in a NUL, and another NUL ends the list: two empty fields.
	pairs := len(fields) - 2
	if pairs < 0 || pairs%2 != 0 || fields[pairs] != "" || fields[pairs+1] != "" {
		return startup{}, &Refusal{
			Reason:  "startup: the message is not a list of names and values",
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
	s.parseOptions()
	return s, nil
}

// parseOptions parses the options and removes amzn-cluster-id from them: it is for DSQL's routing,
// PostgreSQL does not know it.
func (s *startup) parseOptions() {
	parsed, err := params.ParseOptions(s.parameters["options"])
	s.optionsErr = err
	for _, o := range parsed {
		if o.Is(params.ClusterID) {
			s.clusterID = o.Value
			continue
		}
		s.options = append(s.options, o)
	}
	if s.clusterID != "" && err == nil {
		s.parameters["options"] = params.FormatOptions(s.options)
	}
}

// settings returns the names of the session parameters that the client sets, sorted.
func (s startup) settings() []string {
	var names []string
	for name := range s.parameters {
		switch name {
		case "user", "database", "options", "replication":
		default:
			names = append(names, name)
		}
	}
	for _, o := range s.options {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return names
}

// negotiate answers a client that requested more than protocol 3.0 with what is supported.
func (s startup) negotiate(client io.Writer) error {
	if s.minor == 0 && len(s.extensions) == 0 {
		return nil
	}
	return writeMessage(client, &pgproto3.NegotiateProtocolVersion{
		NewestMinorProtocol: pgproto3.ProtocolVersion30, // the whole version, as PostgreSQL does
		UnrecognizedOptions: s.extensions,
	})
}
