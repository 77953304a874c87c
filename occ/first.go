package occ

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/pgtx"
	"github.com/go-dsql/dsql/internal/sqlstate"
)

// first is the batch of BEGIN and the statement that travels with it. The server executes the
// statement only if BEGIN succeeded: after an error it skips the rest of the batch.
type first struct {
	batch            pgx.Batch
	queued           [2]*pgx.QueuedQuery
	begin, statement pgx.QueuedQuery
	offset           int    // of what follows BEGIN, if both are one text; until the next statement
	unencodable      string // whose argument could not be encoded, so that pgx has closed the connection
}

// beginSQL is pgx's BEGIN for o.
func beginSQL(o pgx.TxOptions) string {
	if o == (pgx.TxOptions{}) {
		return "begin"
	}
	var b pgx.Batch
	b.BeginTx(o)
	return b.QueuedQueries[0].SQL
}

// sendFirst sends BEGIN and the first statement, and reads BEGIN's result. If it returns neither
// results nor an error, the transaction has begun and the statement must be sent separately.
func (tx *attemptTx) sendFirst(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	if !pgtx.IsOne(sql) || !travels(sql, args) {
		return nil, tx.beginAlone()
	}
	f := &tx.first
	f.begin.SQL = beginSQL(tx.run.txOptions)
	f.statement.SQL, f.statement.Arguments = sql, args
	f.queued = [2]*pgx.QueuedQuery{&f.begin, &f.statement}
	f.batch.QueuedQueries = f.queued[:]
	results, err := tx.begun(tx.conn.SendBatch(ctx, &f.batch), true)
	if f.unencodable != "" {
		unencodable.add(sql)
	}
	return results, err
}

// sendFirstBatch is sendFirst for a batch.
func (tx *attemptTx) sendFirstBatch(ctx context.Context, b *pgx.Batch) (pgx.BatchResults, error) {
	if b.Len() == 0 || slices.ContainsFunc(b.QueuedQueries, func(q *pgx.QueuedQuery) bool { return pgtx.ControlsTx(q.SQL) || !travels(q.SQL, q.Arguments) }) {
		return nil, tx.beginAlone()
	}
	// Copies, as pgx prepares them, and the callback's may have to be sent again.
	copies := make([]pgx.QueuedQuery, len(b.QueuedQueries)+1)
	joint := &pgx.Batch{QueuedQueries: make([]*pgx.QueuedQuery, len(copies))}
	copies[0].SQL = beginSQL(tx.run.txOptions)
	for i, q := range b.QueuedQueries {
		copies[i+1] = *q
	}
	for i := range copies {
		joint.QueuedQueries[i] = &copies[i]
	}
	results, err := tx.begun(tx.conn.SendBatch(ctx, joint), false)
	for i, q := range b.QueuedQueries {
		if copies[i+1].SQL == tx.first.unencodable { // with its names rewritten
			unencodable.add(q.SQL)
		}
	}
	return results, err
}

// travels reports whether pgx takes args in a batch as it takes them elsewhere. Options do not
// travel, and a rewriter of the callback's own may use the connection.
func travels(sql string, args []any) bool {
	if unencodable.has(sql) {
		return false
	}
	for _, arg := range args {
		switch arg.(type) {
		case pgx.NamedArgs, pgx.StrictNamedArgs: // options may follow
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryRewriter:
			return false
		default:
			return true
		}
	}
	return true
}

// unencodable are statements that were given an argument that cannot be encoded. If they travel
// with BEGIN, such an argument costs the connection: pgx closes it.
var unencodable texts

// texts is a set of statements, which remembers each for a minute.
type texts struct {
	mu  sync.RWMutex
	set map[string]time.Time
}

// Bounds of texts: statements, and bytes of each.
const (
	maxTexts      = 100
	maxTextLength = 4 << 10
)

func (t *texts) has(sql string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	added, ok := t.set[sql]
	return ok && time.Since(added) < time.Minute
}

func (t *texts) add(sql string) {
	if len(sql) > maxTextLength {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.set == nil || len(t.set) == maxTexts {
		t.set = make(map[string]time.Time)
	}
	t.set[sql] = time.Now()
}

// begun reads BEGIN's result. single says that the batch is not the callback's, which should not
// see pgx's error for one.
func (tx *attemptTx) begun(results pgx.BatchResults, single bool) (pgx.BatchResults, error) {
	_, err := results.Exec()
	if err == nil {
		tx.pending, tx.inTx = false, true
		if pgtx.Settings(tx.conn).Mode == pgx.QueryExecModeSimpleProtocol {
			tx.first.offset = len(beginSQL(tx.run.txOptions) + "\n;")
		}
		return results, nil
	}
	_ = results.Close()
	var preparing pgx.ErrPreprocessingBatch
	ofBegin := !errors.As(err, &preparing) || preparing.SQL() == beginSQL(tx.run.txOptions)
	if tx.pg.IsClosed() && strings.HasPrefix(preparing.Error(), "error preprocessing batch (build)") {
		tx.first.unencodable = preparing.SQL()
	}
	if single && errors.As(err, &preparing) {
		err = preparing.Unwrap()
	}
	return nil, tx.notBegun(err, ofBegin)
}

// notBegun handles an error before BEGIN was executed, after which nothing has been done. A
// temporary error fails the attempt. After any other, and if pgx's prepared BEGIN is stale, BEGIN
// is sent separately, so that the statement fails in the transaction as it would have without a
// batch.
func (tx *attemptTx) notBegun(err error, ofBegin bool) error {
	k, lost := classifyBegin(err), tx.lost(err)
	switch {
	case !tx.pg.IsClosed() && (k == permanent || !sqlstate.InTree(err) || k == stalePlan && ofBegin):
		return tx.beginAlone()
	case !lost && !sqlstate.InTree(err): // the callback's own timeout, or an argument that cannot be encoded
	case lost || ofBegin:
		tx.refused, tx.beginFailed = err, &failure{k, fmt.Errorf("occ: begin: %w", err)}
	default:
		tx.refused = err
	}
	tx.pending = false
	return err
}

// execFirst executes the first statement together with BEGIN. If it returns neither true nor an
// error, the statement must be sent separately.
func (tx *attemptTx) execFirst(ctx context.Context, sql string, args []any) (tag pgconn.CommandTag, sent bool, err error) {
	if len(args) == 0 && strings.ContainsAny(sql, " \t\r\n") { // otherwise it may be the name of a prepared statement
		return tx.execFirstText(ctx, sql)
	}
	results, err := tx.sendFirst(ctx, sql, args)
	if results == nil {
		return tag, false, err
	}
	tag, err = results.Exec()
	if closed := results.Close(); err == nil {
		err = closed
	}
	return tag, true, err
}

// execFirstText is execFirst for the simple protocol, by which pgx sends what has no arguments, and
// which prepares nothing.
func (tx *attemptTx) execFirstText(ctx context.Context, sql string) (tag pgconn.CommandTag, sent bool, err error) {
	begin := beginSQL(tx.run.txOptions) + ";"
	results := tx.pg.Exec(ctx, begin+sql)
	begun := false
	if results.NextResult() {
		_, err := results.ResultReader().Close()
		begun = err == nil
	}
	for results.NextResult() {
		tag, _ = results.ResultReader().Close()
	}
	err = results.Close()
	if !begun && err != nil {
		return tag, false, tx.notBegun(err, true)
	}
	tx.pending, tx.inTx = false, true
	tx.first.offset = len(begin)
	return tag, true, err
}

// unshift takes BEGIN out of the position that err, the first of the server, has in a text of both.
func (f *first) unshift(err error) {
	var pgErr *pgconn.PgError
	if f.offset > 0 && errors.As(err, &pgErr) && pgErr.Position > 0 {
		pgErr.Position -= int32(f.offset)
	}
}

// queryFirst sends a query together with BEGIN. If it returns neither rows nor an error, the query
// must be sent separately.
func (tx *attemptTx) queryFirst(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	results, err := tx.sendFirst(ctx, sql, args)
	switch {
	case err != nil:
		return errRows{err: err, conn: tx.conn}, tx.record(err)
	case results == nil:
		return nil, nil
	}
	rows, err := results.Query()
	if err == nil {
		return &attemptRows{Rows: rows, tx: tx, batch: results}, nil
	}
	_ = results.Close()
	tx.record(err)
	if pgtx.Settings(tx.conn).Mode != pgx.QueryExecModeSimpleProtocol {
		return errRows{err: err, conn: tx.conn}, nil // as without a batch: the rows have the error
	}
	return errRows{err: err, conn: tx.conn}, err
}

// begins reports whether b begins a transaction by [pgx.Batch.BeginTx].
func begins(b *pgx.Batch) bool {
	return len(b.QueuedQueries) > 0 && pgtx.ControlsTx(b.QueuedQueries[0].SQL) && pgx.FailedBatchResults(b, errBatchBegins).Tx() != nil
}
