package fakepg

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// normalize returns sql as Answer gets it, without comments before it; END is another word for COMMIT.
func normalize(sql string) string {
	sql = leadingComments.ReplaceAllString(sql, "")
	sql = strings.ToLower(strings.Join(strings.Fields(strings.TrimSuffix(strings.TrimSpace(sql), ";")), " "))
	if sql == "end" {
		return "commit"
	}
	return sql
}

func tag(word string, rows int) string {
	switch word {
	case "select", "copy":
		return fmt.Sprintf("%s %d", strings.ToUpper(word), rows)
	case "insert":
		return "INSERT 0 1"
	case "update", "delete":
		return strings.ToUpper(word) + " 1"
	}
	return strings.ToUpper(word)
}

// columns returns the number of columns of a statement's result: as many as a select names, one
// with returning.
func columns(sql string) int {
	if list, ok := strings.CutPrefix(sql, "select "); ok {
		list, _, _ = strings.Cut(list, " from ")
		return 1 + strings.Count(list, ",")
	}
	if strings.Contains(sql, " returning ") {
		return 1
	}
	return 0
}

func parameters(sql string) int {
	most := 0
	for _, p := range parameter.FindAllString(sql, -1) {
		n, _ := strconv.Atoi(p[1:])
		most = max(most, n)
	}
	return most
}

// format returns the format of column i: formats has none for text, one for all, or one for each.
func format(formats []int16, i int) int16 {
	switch len(formats) {
	case 0:
		return 0
	case 1:
		return formats[0]
	}
	return formats[i]
}

func description(columns int, formats []int16) *pgproto3.RowDescription {
	d := &pgproto3.RowDescription{}
	for i := range columns {
		d.Fields = append(d.Fields, pgproto3.FieldDescription{
			Name: []byte("n"), DataTypeOID: bigint, DataTypeSize: 8, TypeModifier: -1, Format: format(formats, i),
		})
	}
	return d
}

func encode(row []int64, formats []int16) *pgproto3.DataRow {
	d := &pgproto3.DataRow{}
	for i, n := range row {
		if format(formats, i) == 1 {
			d.Values = append(d.Values, binary.BigEndian.AppendUint64(nil, uint64(n)))
			continue
		}
		d.Values = append(d.Values, strconv.AppendInt(nil, n, 10))
	}
	return d
}

// decode decodes bigint parameters; others become 0.
func decode(params [][]byte, formats []int16) []int64 {
	var args []int64
	for i, p := range params {
		if format(formats, i) == 1 && len(p) == 8 {
			args = append(args, int64(binary.BigEndian.Uint64(p)))
			continue
		}
		n, _ := strconv.ParseInt(string(p), 10, 64)
		args = append(args, n)
	}
	return args
}
