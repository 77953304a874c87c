package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxRecord bounds a record: a quote that is never closed would swallow the rest of the file.
const maxRecord = 16 << 20

// csvReader reads CSV as PostgreSQL's COPY does: a quote may begin anywhere in a field, and a field
// that was quoted is never NULL. It keeps what encoding/csv does not report: the line that a record
// begins at, its text, and which fields were quoted.
type csvReader struct {
	in    *bufio.Reader
	comma byte
	max   int // of a record's bytes, which is only reached inside quotes
	lines int // read so far
}

type csvRecord struct {
	line   int
	text   string // without its line's end
	fields []csvField
}

type csvField struct {
	value  string
	quoted bool
}

func newCSVReader(in io.Reader, comma byte) *csvReader {
	r := &csvReader{in: bufio.NewReaderSize(in, 1<<16), comma: comma, max: maxRecord}
	if mark, err := r.in.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = r.in.Discard(3) // the byte order mark of a spreadsheet
	}
	return r
}

// read returns the next record that is not empty, or io.EOF.
func (r *csvReader) read() (csvRecord, error) {
	for {
		record := csvRecord{line: r.lines + 1}
		text, err := r.text()
		if err != nil {
			return record, err
		}
		if text == "" {
			continue
		}
		record.text = text
		record.fields = splitCSV(text, r.comma)
		return record, nil
	}
}

// text reads lines until all quotes are closed.
func (r *csvReader) text() (string, error) {
	var text strings.Builder
	first := r.lines + 1
	for quotes := 0; ; {
		line, err := r.in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if err != nil && line == "" && text.Len() == 0 {
			return "", io.EOF
		}
		text.WriteString(line)
		quotes += strings.Count(line, `"`)
		if line != "" {
			r.lines++
		}
		switch {
		case quotes%2 == 0:
			return strings.TrimSuffix(strings.TrimSuffix(text.String(), "\n"), "\r"), nil
		case err != nil:
			return "", fmt.Errorf("line %d: a quote is not closed before the end of the file", first)
		case text.Len() > r.max:
			return "", fmt.Errorf("line %d: a quote is not closed within %d MiB", first, r.max>>20)
		}
	}
}

func splitCSV(text string, comma byte) []csvField {
	var fields []csvField
	var value strings.Builder
	quoted, inside := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' && inside && i+1 < len(text) && text[i+1] == '"':
			value.WriteByte('"')
			i++
		case c == '"':
			inside, quoted = !inside, true
		case c == comma && !inside:
			fields = append(fields, csvField{value.String(), quoted})
			value.Reset()
			quoted = false
		default:
			value.WriteByte(c)
		}
	}
	return append(fields, csvField{value.String(), quoted})
}
