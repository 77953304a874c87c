package fakepg

import (
	"bytes"
	"encoding/binary"
	"io"
)

// Lean answers every statement as an update of one row, without allocating, so that the allocations
// of a test are the client's. It is for the hook Session. A statement has one argument, $1, or none,
// and no message is longer than 4 KiB.
func Lean(c *Conn) error {
	in := make([]byte, 0, 8192)
	out := make([]byte, 0, 8192)
	status, parameter := byte('I'), false
	for {
		n, err := c.Conn.Read(in[len(in):cap(in)])
		if err != nil {
			return err
		}
		in = in[:len(in)+n]
		out = out[:0]
		used := 0
		for len(in)-used >= 5 {
			length := 1 + int(binary.BigEndian.Uint32(in[used+1:]))
			if len(in)-used < length {
				break
			}
			kind, body := in[used], in[used+5:used+length]
			used += length
			switch kind {
			case 'Q', 'E':
				tag, ended := "UPDATE 1", status
				switch {
				case bytes.HasPrefix(body, []byte("begin;")):
					out = answer(out, 'C', "BEGIN\x00")
					ended = 'T'
				case bytes.HasPrefix(body, []byte("begin")):
					tag, ended = "BEGIN", 'T'
				case bytes.HasPrefix(body, []byte("commit")):
					tag, ended = "COMMIT", 'I'
				case kind == 'E':
					ended = 'T'
				}
				status = ended
				out = answer(out, 'C', tag, 0)
			case 'P':
				parameter = bytes.IndexByte(body, '$') >= 0
				out = answer(out, '1', "")
			case 'B':
				out = answer(out, '2', "")
			case 'D':
				switch {
				case body[0] == 'S' && parameter:
					out = answer(out, 't', "", 0, 1, 0, 0, 0, bigint)
				case body[0] == 'S':
					out = answer(out, 't', "", 0, 0)
				}
				out = answer(out, 'n', "")
			case 'X':
				return io.EOF
			}
			if kind == 'Q' || kind == 'S' {
				out = answer(out, 'Z', "", status)
			}
		}
		in = in[:copy(in, in[used:])]
		if len(out) > 0 {
			if _, err := c.Conn.Write(out); err != nil {
				return err
			}
		}
	}
}

// answer appends a message.
func answer(out []byte, kind byte, text string, rest ...byte) []byte {
	out = append(out, kind)
	out = binary.BigEndian.AppendUint32(out, uint32(4+len(text)+len(rest)))
	out = append(out, text...)
	return append(out, rest...)
}
