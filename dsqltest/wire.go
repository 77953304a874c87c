package dsqltest

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
	// maxMessage is DSQL's limit on one message of a client:
	// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
	maxMessage = 10 << 20
)

// message is one protocol message as it came: type, length, body. It is valid
// until the next is read.
type message []byte

func (m message) kind() byte   { return m[0] }
func (m message) body() []byte { return m[headerLength:] }

// text is the body up to its first NUL.
func (m message) text() string {
	text, _ := cutText(m.body())
	return text
}

// cutText takes a NUL-terminated string off b.
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

// errTooLong is a message over the limit.
type errTooLong struct{ length uint32 }

func (e errTooLong) Error() string { return fmt.Sprintf("a message of %d bytes", e.length) }

// read reads the next message. limit is for its body; 0 is none.
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

// send adds a message to what is flushed next. What goes wrong shows at the next
// read.
func (s *stream) send(m pgproto3.Message) {
	packet, err := m.Encode(nil)
	if err != nil {
		return
	}
	_, _ = s.w.Write(packet)
}
