package schema

import (
	"context"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql/internal/dialect"
	"github.com/go-dsql/dsql/occ"
)

// Apply executes units in order. Indexes that follow one another are built at the same time; any
// other statement finds the indexes before it valid. What a file sets in a session holds until the
// end of the file.
func Apply(ctx context.Context, db DB, units []Unit) error {
	if err := checkSettings(db, units); err != nil {
		return err
	}
	shared := applier{db: db}
	for file := range Files(units) {
		if !changesSettings(file) {
			if err := shared.apply(ctx, file); err != nil {
				return err
			}
			continue
		}
		if err := shared.wait(); err != nil {
			return err
		}
		if err := applyInSession(ctx, db, file); err != nil {
			return err
		}
	}
	return shared.wait()
}

// Files returns the units of each file.
func Files(units []Unit) iter.Seq[[]Unit] {
	return func(yield func([]Unit) bool) {
		start := 0
		for i := range units {
			last := i == len(units)-1 || units[i+1].File != units[i].File
			if last && !yield(units[start:i+1]) {
				return
			}
			if last {
				start = i + 1
			}
		}
	}
}

// applier executes units. It has the indexes that are being built.
type applier struct {
	db     DB
	builds []func() error
}

func (a *applier) apply(ctx context.Context, units []Unit) error {
	for _, u := range units {
		if _, ok := dialect.ParseAsyncIndex(u.Statements[0]); ok {
			b, err := startIndex(ctx, a.db, u.Statements[0])
			if err != nil {
				return fmt.Errorf("%s: %w", u.File, err)
			}
			a.builds = append(a.builds, func() error { return u.wrap(u.Statements[0], b.wait(ctx)) })
			continue
		}
		if err := a.wait(); err != nil {
			return err
		}
		if err := u.apply(ctx, a.db); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until the indexes are valid.
func (a *applier) wait() error {
	for _, build := range a.builds {
		if err := build(); err != nil {
			return err
		}
	}
	a.builds = nil
	return nil
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
