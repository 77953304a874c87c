package occ

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/pgtx"
)

// BatchSender sends batches: *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn.
type BatchSender interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

// RunBatch runs the statements that fn queues as one transaction in one round trip, and retries
// like [RunTx]. The server makes them a transaction without BEGIN and COMMIT: all are applied or
// none. (pgx takes another round trip the first time that a connection sees a statement, to prepare
// it.)
//
// fn is called for each attempt with an empty batch. An error of fn sends nothing. The functions
// that fn sets on a [pgx.QueuedQuery] are called before it is known that the batch has committed,
// once for each attempt; an error of theirs does not undo the batch, and RunBatch says so.
//
// A batch that was sent and not answered is a [*CommitUnknownError], as for RunTx, which
// [WithCommitCheck] may settle. Statements that begin or end a transaction are refused, and so is
// [WithTxOptions].
func RunBatch(ctx context.Context, db BatchSender, fn func(*pgx.Batch) error, opts ...RetryOption) error {
	r, err := newRun(db, opts)
	switch {
	case err != nil:
		return err
	case isNil(db):
		return errNilDatabase
	case fn == nil:
		return errNilCallback
	case r.txOptions != pgx.TxOptions{}:
		return errors.New("occ: invalid transaction options: the transaction of a batch has none; use RunTx")
	}
	return r.do(ctx, func() *failure {
		b := &pgx.Batch{}
		if err := fn(b); err != nil {
			return &failure{classifyInTx(err), err}
		}
		for _, q := range b.QueuedQueries {
			if pgtx.ControlsTx(q.SQL) {
				return &failure{permanent, fmt.Errorf("occ: a batch must not begin or end a transaction: remove %q", q.SQL)}
			}
		}
		if len(b.QueuedQueries) == 0 {
			return nil
		}
		return r.sendBatch(ctx, db, b)
	})
}

func (r *run) sendBatch(ctx context.Context, db BatchSender, b *pgx.Batch) *failure {
	var conn *pgx.Conn
	switch db := db.(type) {
	case *pgxpool.Pool:
		c, failed := r.acquire(ctx, db)
		if failed != nil {
			return failed
		}
		defer c.Release()
		conn = c.Conn()
	case *pgxpool.Conn:
		conn = db.Conn()
	case *pgx.Conn:
		conn = db
	default: // a wrapper, or a mock
		server := recordServer(b)
		err := db.SendBatch(ctx, b).Close()
		switch {
		case err == nil:
			return nil
		case server.failed == nil && server.ofCallback:
			return r.classifyCommit(ctx, pgtx.Unknown, err, nil)
		}
		return r.classifyBatch(ctx, pgtx.ForeignOutcome(err), err)
	}
	s := newSession(conn)
	if !s.pg.IsClosed() && s.pg.TxStatus() != 'I' {
		return &failure{permanent, errNoSavepoints}
	}
	s.watchEnds()
	defer s.watch.Stop()
	server := recordServer(b)
	// Only the time is left to watch: pgx ends the batch when the ctx that it gets does.
	err := r.interruptible(context.Background(), s.pg, func() error { return conn.SendBatch(ctx, b).Close() })
	switch {
	case err == nil:
		return nil
	case s.watch.Succeeded():
		return &failure{permanent, &endedError{errBatchCommitted, err}}
	case !s.watch.Sent():
		return &failure{classifyBegin(err), withContext(ctx, fmt.Errorf("occ: the batch was not sent: %w", err))}
	case s.watch.Failed() && server.failed == nil && server.ofCallback:
		return &failure{permanent, withContext(ctx, fmt.Errorf("occ: the batch was not applied: %w", err))}
	case server.failed == nil && server.ofCallback: // pgx does not report the server's answer
		return r.classifyCommit(ctx, pgtx.Unknown, err, nil)
	}
	return r.classifyBatch(ctx, pgtx.ErrorOutcome(err), err)
}

// batchServer distinguishes errors of the server from those of the functions for a batch's results.
type batchServer struct {
	attemptTx
	ofCallback bool
}

// recordServer makes the functions for b's results record which errors are the server's.
func recordServer(b *pgx.Batch) *batchServer {
	server := &batchServer{}
	for _, q := range b.QueuedQueries {
		if fn := q.Fn; fn != nil {
			q.Fn = func(results pgx.BatchResults) error {
				err := fn(&attemptBatch{results, &server.attemptTx})
				server.ofCallback = server.ofCallback || err != nil
				return err
			}
		}
	}
	return server
}

var errBatchCommitted = errors.New("occ: the batch has committed, and a function for its results failed")

// classifyBatch classifies the error of a batch that was sent.
func (r *run) classifyBatch(ctx context.Context, o pgtx.Outcome, err error) *failure {
	if o == pgtx.Refused {
		return &failure{classifyInTx(err), err}
	}
	return r.classifyCommit(ctx, o, err, nil)
}
