package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// disturbed reports whether a schema change of another session let a statement fail.
func (a Answer) disturbed() bool { return strings.Contains(a.Message, "(OC001)") }

// Put runs a row against a cluster, and rolls back what it leaves open. The error is of the
// connection or of a statement before the row's.
func Put(ctx context.Context, conn *pgx.Conn, mode pgx.QueryExecMode, row Row) (Answer, error) {
	defer func() {
		if conn.PgConn().TxStatus() != 'I' {
			_, _ = conn.Exec(ctx, "ROLLBACK")
		}
	}()
	steps := append(row.Setup[:len(row.Setup):len(row.Setup)], row.SQL)
	begun, attempts := 0, 0 // begun is where the open transaction began
	job := ""               // the ID that the last asynchronous statement returned
	for i := 0; ; i++ {
		if conn.PgConn().TxStatus() == 'I' {
			begun = i
		}
		sql, fails := strings.CutPrefix(steps[i], "!")
		answer, err := PutOnce(ctx, conn, mode, strings.ReplaceAll(sql, "{job}", job))
		if answer.Tag == "CREATE INDEX" || answer.Tag == "ALTER TABLE" {
			job = answer.Value
		}
		last := i == len(steps)-1
		expected := last && strings.Contains(row.Message, "OC001")
		switch {
		case err != nil:
			return answer, err
		case answer.disturbed() && !expected && attempts < maxAttempts:
			attempts++
			again(ctx, conn, attempts)
			i = begun - 1
		case last:
			return answer, nil
		case (answer.Code != "") != fails:
			return answer, fmt.Errorf("before it, %s: %v", sql, answer)
		}
	}
}

// maxAttempts bounds how often a statement is executed that hits the schema change of another, an
// asynchronous job's included.
const maxAttempts = 10

// again prepares a session for another attempt.
func again(ctx context.Context, conn *pgx.Conn, attempt int) {
	if conn.PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "ROLLBACK")
	}
	select {
	case <-time.After(time.Duration(attempt) * 20 * time.Millisecond):
	case <-ctx.Done():
	}
}

// PutOnce executes a statement. An error that the server sent is an answer.
func PutOnce(ctx context.Context, conn *pgx.Conn, mode pgx.QueryExecMode, sql string) (Answer, error) {
	if strings.Contains(sql, "; ") { // a string of several statements has the simple protocol only
		mode = pgx.QueryExecModeSimpleProtocol
	}
	var a Answer
	rows, err := conn.Query(ctx, sql, mode, pgx.QueryResultFormats{pgx.TextFormatCode})
	if err == nil {
		for n := 0; rows.Next(); n++ {
			if values := rows.RawValues(); len(values) > 0 {
				a.Last = string(values[0])
			}
			if n == 0 {
				a.Value = a.Last
			}
		}
		rows.Close()
		a.Tag, err = rows.CommandTag().String(), rows.Err()
	}
	var told *pgconn.PgError
	if errors.As(err, &told) {
		return Answer{Code: told.Code, Message: told.Message}, nil
	}
	return a, err
}
