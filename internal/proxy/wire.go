package proxy

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	headerLength = 5
	// maxMessage is DSQL's limit on one message from a client:
	// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
	maxMessage = 10 << 20
)

// message is one protocol message as read: type, length, body. It is valid until the next read.
type message []byte

func (m message) kind() byte   { return m[0] }
func (m message) body() []byte { return m[headerLength:] }

// isReady reports whether a message is ReadyForQuery.
func isReady(m message) bool { return m.kind() == 'Z' }

// text returns the body up to its first NUL.
func (m message) text() string {
	text, _ := cutText(m.body())
	return text
}

// cutText splits b after its first NUL-terminated string.
func cutText(b []byte) (string, []byte) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:]
		}
	}
	return string(b), nil
}

// stream reads and writes whole messages.
type stream struct {
	net.Conn
	r   *bufio.Reader
	w   *bufio.Writer
	buf []byte
}

func newStream(conn net.Conn) *stream {
	return &stream{Conn: conn, r: bufio.NewReaderSize(conn, 16<<10), w: bufio.NewWriterSize(conn, 16<<10)}
}

// errTooLong reports a message whose length is out of bounds.
type errTooLong struct{ length uint32 }

func (e errTooLong) Error() string { return fmt.Sprintf("message length %d", e.length) }

// read reads the next message. limit bounds its length; 0 is no limit.
func (s *stream) read(limit uint32) (message, error) {
	if cap(s.buf) < headerLength {
		s.buf = make([]byte, 4<<10)
	}
	head := s.buf[:headerLength]
	if _, err := io.ReadFull(s.r, head); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || limit > 0 && length > limit {
		return nil, errTooLong{length}
	}
	whole := int(length) + 1
	if cap(s.buf) < whole {
		grown := make([]byte, whole)
		copy(grown, head)
		s.buf = grown
	}
	m := s.buf[:whole]
	if _, err := io.ReadFull(s.r, m[headerLength:]); err != nil {
		return nil, err
	}
	return m, nil
}

// send buffers a message. A failed write shows at the next read.
func (s *stream) send(m pgproto3.Message) { _, _ = s.w.Write(encode(m)) }

// encode encodes a message that this package built, which cannot fail for a valid message.
func encode(m pgproto3.Message) message {
	packet, err := m.Encode(nil)
	if err != nil {
		panic("dsqltest: encoding a message: " + err.Error())
	}
	return packet
}

// writeMessage writes a message to a connection that has no stream.
func writeMessage(w io.Writer, m pgproto3.Message) error {
	packet, err := m.Encode(nil)
	if err != nil {
		return err
	}
	_, err = w.Write(packet)
	return err
}
