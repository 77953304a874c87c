// Package pgtx ends the transactions of pgx connections: it sends COMMIT and says what became of
// it, and it watches a connection for transactions that end in other ways.
package pgtx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// Outcome is what became of a COMMIT.
type Outcome int

const (
	Unknown    Outcome = iota // it was sent, and nothing says whether it was applied
	Committed                 // the server said so
	RolledBack                // the server answered with ROLLBACK: a statement had failed
	Refused                   // the server answered with an error: nothing was committed
	NotSent                   // nothing was committed
)

var (
	// ErrLost is a connection that was lost before COMMIT was sent.
	ErrLost = errors.New("the connection was lost before COMMIT was sent; nothing was committed")

	// ErrNotSent is another reason why COMMIT was not sent.
	ErrNotSent = errors.New("COMMIT was not sent; nothing was committed")

	// ErrEnded is a transaction that was ended by SQL.
	ErrEnded = errors.New("the transaction was ended by SQL in it")

	// ErrCommitted is an ErrEnded that the server has committed.
	ErrCommitted = fmt.Errorf("the server has committed it: %w", ErrEnded)
)

// Commit sends sql, which is COMMIT unless the caller has its own, and reads the answer. It returns
// no error if the transaction has committed. A connection that is not idle afterwards is closed.
//
// It replaces pgx.Tx.Commit, which loses an answer if the connection is cut right after it, and
// whose error may say that COMMIT was not sent although it was.
func Commit(ctx context.Context, conn *pgx.Conn, sql string) (Outcome, error) {
	if sql == "" {
		sql = "commit"
	}
	settings := Settings(conn)
	tracer := settings.Tracer
	if tracer != nil {
		ctx = tracer.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: sql})
	}
	tag, outcome, err := commit(ctx, conn.PgConn(), settings, sql)
	if tracer != nil {
		tracer.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{CommandTag: pgconn.NewCommandTag(tag), Err: err})
	}
	return outcome, err
}

func commit(ctx context.Context, pg *pgconn.PgConn, settings *ConnSettings, sql string) (tag string, o Outcome, err error) {
	switch {
	case pg.IsClosed() || isCut(pg, settings.socket):
		return "", NotSent, ErrLost
	case pg.IsBusy():
		return "", NotSent, errors.New("rows or a batch are open")
	case ctx.Err() != nil:
		return "", NotSent, ctx.Err()
	}
	tag, o, err = exchange(ctx, pg, settings.watcher, sql)
	if o == NotSent {
		CloseNow(pg)
		return "", NotSent, err
	}
	if pg.TxStatus() != 'I' || !answered(err) {
		CloseNow(pg)
	}
	switch {
	case tag == "COMMIT":
		return tag, Committed, nil
	case tag == "ROLLBACK":
		return tag, RolledBack, pgx.ErrTxCommitRollback
	case err == nil:
		return tag, Committed, nil // a statement of the caller's own
	}
	return tag, ErrorOutcome(err), err
}

// exchange sends sql and reads the answer up to ReadyForQuery. One watch of ctx is for all of it.
// The outcome is NotSent or, for now, Unknown.
func exchange(ctx context.Context, pg *pgconn.PgConn, watcher *ctxwatch.ContextWatcher, sql string) (tag string, o Outcome, err error) {
	watcher.Watch(ctx)
	defer watcher.Unwatch()
	pg.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := pg.Frontend().Flush(); err != nil {
		if isWriteError(err) { // a part of a message has no effect
			return "", NotSent, withContext(ctx, err)
		}
		return "", Unknown, withContext(ctx, err)
	}
	tag, err = receive(pg)
	return tag, Unknown, withContext(ctx, err)
}

// withContext adds the error of ctx to that of a read or a write which it ended.
func withContext(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	var timeout net.Error
	if pgconn.Timeout(err) || errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// receive reads the answer message by message, since what has come before a cut counts.
func receive(pg *pgconn.PgConn) (tag string, first error) {
	for {
		msg, err := pg.ReceiveMessage(context.Background())
		if err != nil {
			if first == nil {
				first = err
			}
			return tag, first
		}
		switch msg := msg.(type) {
		case *pgproto3.CommandComplete:
			switch {
			case string(msg.CommandTag) == "COMMIT" && first == nil:
				tag = "COMMIT"
			case tag != "COMMIT" && first == nil:
				tag = string(msg.CommandTag)
			}
		case *pgproto3.ErrorResponse:
			if first == nil {
				first = pgconn.ErrorResponseToPgError(msg)
			}
		case *pgproto3.ReadyForQuery:
			return tag, first
		}
	}
}

func answered(err error) bool { return err == nil || sqlstate.InTree(err) }

// CloseNow closes pg without waiting for the server, which may be silent.
func CloseNow(pg *pgconn.PgConn) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = pg.Close(ctx)
}

// ErrorOutcome returns what an error in answer to COMMIT means. Only an answer of the server, or a
// failed write, settles it. pgconn.SafeToRetry does not: it is true when the connection is cut
// after COMMIT was applied.
func ErrorOutcome(err error) Outcome {
	switch {
	case err == nil:
		return Committed
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return RolledBack
	case errors.Is(err, ErrLost), errors.Is(err, ErrNotSent):
		return NotSent
	case isRefusal(err):
		return Refused
	case isWriteError(err):
		return NotSent
	}
	return Unknown
}

// ForeignOutcome is ErrorOutcome for the error of another library's Commit. A failed write in it
// may be of what that library did after the commit, to another server, so it settles nothing.
func ForeignOutcome(err error) Outcome {
	o := ErrorOutcome(err)
	if o == NotSent && !errors.Is(err, ErrLost) && !errors.Is(err, ErrNotSent) {
		return Unknown
	}
	return o
}

// isRefusal reports whether err is the server's answer that it did not commit.
func isRefusal(err error) bool {
	answered := false
	open := sqlstate.Has(err, func(e sqlstate.Error) bool {
		answered = true
		state := e.SQLState()
		return len(state) != 5 || state == "40003" ||
			strings.HasPrefix(state, "08") || // connection exception
			strings.HasPrefix(state, "57") || // operator intervention: shutdown, cancel
			strings.HasPrefix(state, "58") || // system error
			strings.HasPrefix(state, "XX") // internal error: "server unavailable"
	})
	return answered && !open
}

// isWriteError reports whether the network did not take all of COMMIT.
func isWriteError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write"
}

// Bounds of isCut, which must not delay COMMIT: a server that closes sends only a few messages
// before, and one that does not close may go on sending, or have sent a part of a message.
const (
	maxLooks    = 10
	lookTimeout = time.Millisecond
)

// isCut reports whether the other side has ended the connection, as far as its end has arrived
// here. Inside TLS the end comes as data, and so does a last message of the server, which are read.
func isCut(pg *pgconn.PgConn, s *socket) bool {
	for range maxLooks {
		found := s.arrived()
		if pg.Frontend().ReadBufferLen() > 0 {
			found = data
		}
		switch found {
		case nothing:
			return false
		case end:
			CloseNow(pg)
			return true
		}
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		_, err := pg.ReceiveMessage(ctx)
		cancel()
		if err != nil && !pgconn.Timeout(err) {
			CloseNow(pg)
			return true
		}
	}
	return false
}

// What a look at a connection's unread bytes finds.
const (
	nothing = iota
	data
	end
)

// ConnSettings are settings of a connection.
type ConnSettings struct {
	Tracer pgx.QueryTracer // may be nil
	Mode   pgx.QueryExecMode

	watcher *ctxwatch.ContextWatcher // ends what is in flight as the configuration says
	socket  *socket
}

// settingsKey is the key of a connection's settings in its custom data: asking pgx copies the whole
// configuration.
const settingsKey = "dsql.settings"

// Settings returns the settings of conn.
func Settings(conn *pgx.Conn) *ConnSettings {
	custom := conn.PgConn().CustomData()
	s, ok := custom[settingsKey].(*ConnSettings)
	if !ok {
		config := conn.Config()
		handler := config.BuildContextWatcherHandler(conn.PgConn())
		s = &ConnSettings{config.Tracer, config.DefaultQueryExecMode, ctxwatch.NewContextWatcher(handler), newSocket(conn.PgConn().Conn())}
		custom[settingsKey] = s
	}
	return s
}
