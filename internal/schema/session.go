package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/dialect"
	"github.com/go-dsql/dsql/occ"
)

// resetTimeout bounds what is done with a connection after its file.
const resetTimeout = 5 * time.Second

// acquirer is a pool, or what embeds one.
type acquirer interface {
	Acquire(context.Context) (*pgxpool.Conn, error)
}

// changesSettings reports whether units change settings of the session.
func changesSettings(units []Unit) bool {
	return slices.ContainsFunc(units, func(u Unit) bool { return len(u.resets()) > 0 })
}

// resets returns the statements that end the settings that u leaves in the session.
func (u Unit) resets() (statements []string) {
	for _, sql := range u.Statements {
		statements = append(statements, dialect.Resets(sql)...)
	}
	return statements
}

// checkSettings refuses units that change settings if it is not known whether db has one session.
func checkSettings(db DB, units []Unit) error {
	switch db.(type) {
	case acquirer, *pgxpool.Conn, *pgx.Conn:
		return nil
	}
	for _, u := range units {
		for _, sql := range u.Statements {
			if len(dialect.Resets(sql)) > 0 {
				return u.wrap(sql, fmt.Errorf("a file with settings needs one session: use a *pgxpool.Pool, *pgxpool.Conn or *pgx.Conn, not a %T; "+
					"or use qualified names, SET LOCAL between BEGIN and COMMIT, or WithRuntimeParam", db))
			}
		}
	}
	return nil
}

// applyInSession executes a file that changes settings on one connection. Nothing of them is left
// for those who use db later.
func applyInSession(ctx context.Context, db DB, file []Unit) error {
	if pool, ok := db.(acquirer); ok {
		return applyOnAcquired(ctx, pool, file)
	}
	session := applier{db: db}
	var resets []string
	for _, u := range file {
		resets = append(resets, u.resets()...) // also if a job of the unit fails after its COMMIT
		if err := session.apply(ctx, []Unit{u}); err != nil {
			return errors.Join(err, reset(ctx, db, resets))
		}
	}
	return errors.Join(session.wait(), reset(ctx, db, resets))
}

// applyOnAcquired executes a file on a connection of a pool, which is closed afterwards: a hook of
// the pool may have set what RESET would not restore. If the connection is lost, the file fails:
// another one would not have the settings.
func applyOnAcquired(ctx context.Context, pool acquirer, file []Unit) error {
	var conn *pgxpool.Conn
	err := occ.Retry(ctx, func(ctx context.Context) (err error) {
		conn, err = pool.Acquire(ctx)
		return err
	}, occ.WithIdempotent())
	if err != nil {
		return fmt.Errorf("%s: %w", file[0].File, err)
	}
	defer conn.Release()
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetTimeout)
		defer cancel()
		_ = conn.Conn().Close(closing)
	}()
	session := applier{db: conn}
	if err := session.apply(ctx, file); err != nil {
		return err
	}
	return session.wait()
}

// reset ends settings of a connection, even if ctx has ended.
func reset(ctx context.Context, db DB, statements []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetTimeout)
	defer cancel()
	slices.Sort(statements)
	for _, sql := range slices.Compact(statements) {
		err := occ.Retry(ctx, func(ctx context.Context) error {
			_, err := execute(ctx, db, sql)
			return err
		})
		if isClosed(db) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ending the settings of the connection: %s: %w", sql, err)
		}
	}
	return nil
}

// isClosed reports whether a connection is closed: its settings have ended with it.
func isClosed(db DB) bool {
	switch db := db.(type) {
	case *pgxpool.Conn:
		return db.Conn().IsClosed()
	case *pgx.Conn:
		return db.IsClosed()
	}
	return false
}
