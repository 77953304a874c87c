package occ_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

type soakClient struct {
	pool *pgxpool.Pool
	db   *sql.DB
	op   int64

	refused error // of a dial
}

// add adds 1 to the row of the call. BEGIN travels with its first statement, whatever that is.
func (c soakClient) add(ctx context.Context, tx pgx.Tx) error {
	switch rand.IntN(6) {
	case 0:
		if err := tx.QueryRow(ctx, selectN, c.op).Scan(new(int64)); err != nil {
			return err
		}
	case 1:
		rows, err := tx.Query(ctx, selectN, c.op)
		if err != nil {
			return err
		}
		if _, err := pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
			return err
		}
	case 2:
		b := &pgx.Batch{}
		b.Queue(selectN, c.op)
		b.Queue(updateN, c.op)
		return tx.SendBatch(ctx, b).Close()
	case 3:
		_, err := tx.Exec(ctx, fmt.Sprintf("update t set n = n + 1 where id = %d", c.op))
		return err
	case 4:
		tx.Conn() // begins first
	}
	_, err := tx.Exec(ctx, updateN, c.op)
	return err
}

func (c soakClient) addSQL(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, updateN, c.op)
	return err
}

// look is a check of a commit that reads the ledger through the pool.
func (c soakClient) look(ctx context.Context) (bool, error) {
	var n int64
	err := c.pool.QueryRow(ctx, selectN, c.op).Scan(&n)
	return n > 0, err
}

var soakWays = []struct {
	name string
	run  func(ctx context.Context, c soakClient) error
}{
	{"RunTx", func(ctx context.Context, c soakClient) error {
		return occ.RunTx(ctx, c.pool, func(tx pgx.Tx) error { return c.add(ctx, tx) }, quick())
	}},
	{"RunTx, errors swallowed", func(ctx context.Context, c soakClient) error {
		return occ.RunTx(ctx, c.pool, func(tx pgx.Tx) error { _ = c.add(ctx, tx); return nil }, quick())
	}},
	{"RunTx on a connection", func(ctx context.Context, c soakClient) error {
		conn, err := c.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		return occ.RunTx(ctx, conn, func(tx pgx.Tx) error { return c.add(ctx, tx) }, quick())
	}},
	{"RunTx on a wrapper", func(ctx context.Context, c soakClient) error {
		return occ.RunTx(ctx, struct{ occ.TxBeginner }{c.pool}, func(tx pgx.Tx) error { return c.add(ctx, tx) }, quick())
	}},
	{"RunTx with a serial key", func(ctx context.Context, c soakClient) error {
		return occ.RunTx(ctx, c.pool, func(tx pgx.Tx) error { return c.add(ctx, tx) }, quick(), occ.WithSerialKey("soak"+strconv.FormatInt(c.op%4, 10)))
	}},
	{"RunTx with a check", func(ctx context.Context, c soakClient) error {
		return occ.RunTx(ctx, c.pool, func(tx pgx.Tx) error { return c.add(ctx, tx) }, quick(), occ.WithCommitCheck(c.look))
	}},
	{"RunSQLTx", func(ctx context.Context, c soakClient) error {
		return occ.RunSQLTx(ctx, c.db, func(tx *sql.Tx) error { return c.addSQL(ctx, tx) }, quick())
	}},
	{"RunTxOf", func(ctx context.Context, c soakClient) error {
		return occ.RunTxOf(ctx, func(ctx context.Context) (*sql.Tx, error) { return c.db.BeginTx(ctx, nil) },
			func(tx *sql.Tx) error { return c.addSQL(ctx, tx) }, quick())
	}},
	{"RunBatch", func(ctx context.Context, c soakClient) error {
		return occ.RunBatch(ctx, c.pool, func(b *pgx.Batch) error {
			b.Queue(selectN, c.op)
			b.Queue(updateN, c.op).Exec(func(pgconn.CommandTag) error {
				if rand.IntN(20) == 0 {
					return fakepg.Conflict()
				}
				return nil
			})
			return nil
		}, quick())
	}},
	{"RunTx in Retry", func(ctx context.Context, c soakClient) error {
		return occ.Retry(ctx, func(ctx context.Context) error {
			err := occ.RunTx(ctx, c.pool, func(tx pgx.Tx) error { return c.add(ctx, tx) }, quick(), occ.WithMaxAttempts(1+rand.IntN(3)))
			if err != nil && rand.IntN(2) == 0 { // a lookup that fails behind it
				return errors.Join(c.refused, err)
			}
			return err
		}, quick(), occ.WithIdempotent())
	}},
	{"RunTx in RunTx", func(ctx context.Context, c soakClient) error {
		return occ.RunTx(ctx, c.pool, func(tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, selectN, c.op).Scan(new(int64)); err != nil {
				return err
			}
			err := occ.RunSQLTx(ctx, c.db, func(tx *sql.Tx) error { return c.addSQL(ctx, tx) }, quick(), occ.WithMaxAttempts(2))
			if err == nil {
				return errDone // what the inner has committed must not be run again
			}
			return err
		}, quick())
	}},
	ending("Conn.Exec", func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Conn().Exec(ctx, commit); return err }),
	ending("Conn.Query", func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Conn().Query(ctx, commit)
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		return err
	}),
	ending("Conn batch", func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(commit)
		return tx.Conn().SendBatch(ctx, b).Close()
	}),
	ending("commit; begin", func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "commit; begin"); return err }),
	ending("BeginFunc", func(ctx context.Context, tx pgx.Tx) error {
		return pgx.BeginFunc(ctx, tx.Conn(), func(pgx.Tx) error { return nil })
	}),
	{"RunSQLTx, ended by SQL", func(ctx context.Context, c soakClient) error {
		return occ.RunSQLTx(ctx, c.db, func(tx *sql.Tx) error {
			if err := c.addSQL(ctx, tx); err != nil {
				return err
			}
			statement := []string{commit, "commit; begin"}[rand.IntN(2)]
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
			return fakepg.Conflict()
		}, quick())
	}},
}

var errDone = errors.New("the server has committed it (the inner one)")

// ending is a callback that commits itself, and then returns a conflict.
func ending(name string, end func(context.Context, pgx.Tx) error) struct {
	name string
	run  func(ctx context.Context, c soakClient) error
} {
	return struct {
		name string
		run  func(ctx context.Context, c soakClient) error
	}{"RunTx, ended by " + name, func(ctx context.Context, c soakClient) error {
		return occ.RunTx(ctx, c.pool, func(tx pgx.Tx) error {
			if err := c.add(ctx, tx); err != nil {
				return err
			}
			if err := end(ctx, tx); err != nil {
				return err
			}
			return fakepg.Conflict()
		}, quick())
	}}
}
