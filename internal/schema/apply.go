package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql/internal/dialect"
	"github.com/go-dsql/dsql/occ"
)

// Apply executes units in order. Indexes that follow one another are built at the same time; any
// other statement finds the indexes before it valid.
func Apply(ctx context.Context, db DB, units []Unit) error {
	var builds []func() error
	wait := func() error {
		for _, build := range builds {
			if err := build(); err != nil {
				return err
			}
		}
		builds = nil
		return nil
	}
	for _, u := range units {
		if _, ok := dialect.ParseAsyncIndex(u.Statements[0]); ok {
			b, err := startIndex(ctx, db, u.Statements[0])
			if err != nil {
				return fmt.Errorf("%s: %w", u.File, err)
			}
			builds = append(builds, func() error { return u.wrap(u.Statements[0], b.wait(ctx)) })
			continue
		}
		if err := wait(); err != nil {
			return err
		}
		if err := u.apply(ctx, db); err != nil {
			return err
		}
	}
	return wait()
}

// apply executes a unit and waits for its jobs.
func (u Unit) apply(ctx context.Context, db DB) error {
	if len(u.Statements) > 1 {
		return u.applyTx(ctx, db)
	}
	sql := u.Statements[0]
	var job string
	err := occ.Retry(ctx, func(ctx context.Context) (err error) {
		job, err = execute(ctx, db, sql)
		return err
	})
	if err == nil && job != "" {
		err = WaitForJob(ctx, db, job)
	}
	return u.wrap(sql, err)
}

// applyTx executes the statements from BEGIN to COMMIT.
func (u Unit) applyTx(ctx context.Context, db DB) error {
	last := len(u.Statements) - 1
	at := "" // the statement that is executed
	var jobs []string
	err := occ.RunTx(ctx, db, func(tx pgx.Tx) error {
		jobs = nil
		for _, at = range u.Statements[1:last] {
			job, err := execute(ctx, tx, at)
			if err != nil {
				return err
			}
			if job != "" {
				jobs = append(jobs, job)
			}
		}
		at = u.Statements[last]
		return nil
	}, occ.WithTxOptions(pgx.TxOptions{BeginQuery: u.Statements[0], CommitQuery: u.Statements[last]}))
	for i := 0; i < len(jobs) && err == nil; i++ {
		err = WaitForJob(ctx, db, jobs[i])
	}
	return u.wrap(at, err)
}

// wrap adds the file and the statement to an error.
func (u Unit) wrap(sql string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %.200s: %w", u.File, sql, err)
}
