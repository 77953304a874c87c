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

const conflict = "40001"

// Put puts a row to a cluster, and rolls back what it leaves open. The error is of the connection or
// of a statement before the row's.
func Put(ctx context.Context, conn *pgx.Conn, mode pgx.QueryExecMode, row Row) (Answer, error) {
	defer func() {
		if conn.PgConn().TxStatus() != 'I' {
			_, _ = conn.Exec(ctx, "ROLLBACK")
		}
	}()
	begun := 0 // where the open transaction began
	attempts := 0
	for i := 0; i < len(row.Setup); i++ {
		if conn.PgConn().TxStatus() == 'I' {
			begun = i
		}
		sql, fails := strings.CutPrefix(row.Setup[i], "!")
		answer, err := PutOnce(ctx, conn, mode, sql)
		if err != nil {
			return answer, err
		}
		if answer.Code == conflict && attempts < maxAttempts {
			attempts++
			i = again(ctx, conn, begun, attempts) - 1
			continue
		}
		if (answer.Code != "") != fails {
			return answer, fmt.Errorf("before it, %s: %v", sql, answer)
		}
	}
	for ; ; attempts++ {
		alone := conn.PgConn().TxStatus() == 'I'
		answer, err := PutOnce(ctx, conn, mode, row.SQL)
		if err != nil || answer.Code != conflict || row.Code == conflict || attempts >= maxAttempts {
			return answer, err
		}
		again(ctx, conn, 0, attempts+1)
		if !alone {
			row.Setup = row.Setup[begun:]
			return Put(ctx, conn, mode, row)
		}
	}
}

// maxAttempts is how often a statement is put that meets the schema change of another, an
// asynchronous job's included.
const maxAttempts = 10

// again prepares for another attempt, and returns where it begins.
func again(ctx context.Context, conn *pgx.Conn, begun, attempt int) int {
	if conn.PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "ROLLBACK")
	}
	select {
	case <-time.After(time.Duration(attempt) * 20 * time.Millisecond):
	case <-ctx.Done():
	}
	return begun
}

// PutOnce executes a statement. An error that the server sent is an answer.
func PutOnce(ctx context.Context, conn *pgx.Conn, mode pgx.QueryExecMode, sql string) (Answer, error) {
	if strings.Contains(sql, "; ") { // a string of several statements has the simple protocol only
		mode = pgx.QueryExecModeSimpleProtocol
	}
	var a Answer
	rows, err := conn.Query(ctx, sql, mode)
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
