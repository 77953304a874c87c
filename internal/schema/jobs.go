package schema

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/occ"
)

// DB is what pgx's pools and connections have in common.
type DB interface {
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
	querier
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// The pauses between two looks at a job. Jobs of empty tables were seen to take 5 seconds and more.
const (
	firstPause = 20 * time.Millisecond
	maxPause   = 2 * time.Second
)

// job is a row of sys.jobs.
type job struct{ id, status, details, object string }

// err returns why a job that is over has not done its work.
func (j job) err() error {
	switch j.status {
	case "completed":
		return nil
	case "":
		return fmt.Errorf("job %q is not in sys.jobs, which lists jobs until 30 minutes after their end", j.id)
	}
	return fmt.Errorf("job %s %s: %s", j.id, j.status, j.details)
}

// because returns what is known of the job, to end an error with.
func (j job) because() string {
	switch {
	case j.id == "":
		return ""
	case j.err() != nil:
		return "; " + j.err().Error()
	case j.details != "":
		return fmt.Sprintf("; job %s: %s", j.id, j.details)
	}
	return ""
}

// WaitForJob waits until a job is over and returns an error if it has not done its work.
func WaitForJob(ctx context.Context, db DB, id string) error {
	j, err := waitForJob(ctx, db, id)
	if err != nil {
		return err
	}
	return j.err()
}

// waitForJob waits until a job is over, or is not listed: then it has no status. It polls, so that
// no statement runs for as long as the job does: DSQL ends transactions after 5 minutes, and a
// statement that ends with its context takes the connection with it.
func waitForJob(ctx context.Context, db DB, id string) (job, error) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		j, err := findJob(ctx, db, "job_id = $1", id)
		if err != nil {
			return job{}, fmt.Errorf("waiting for job %s: %w", id, err)
		}
		if j.status != "submitted" && j.status != "processing" {
			j.id = id
			return j, nil
		}
		select {
		case <-ctx.Done():
			return job{}, fmt.Errorf("waiting for job %s, which continues: %w", id, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// findJob returns the latest job that a condition is true for, or none.
func findJob(ctx context.Context, db DB, where, arg string) (j job, err error) {
	const jobs = "SELECT job_id, status, coalesce(details, ''), coalesce(object_id::text, '') FROM sys.jobs WHERE "
	err = read(ctx, db, jobs+where+" ORDER BY start_time DESC LIMIT 1", []any{arg}, &j.id, &j.status, &j.details, &j.object)
	return j, err
}

// read scans the first row of a query, if there is one. It is repeated if the connection is lost.
func read(ctx context.Context, db DB, sql string, args []any, into ...any) error {
	return occ.Retry(ctx, func(ctx context.Context) error {
		rows, err := db.Query(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		if rows.Next() {
			if err := rows.Scan(into...); err != nil {
				return err
			}
		}
		rows.Close()
		return rows.Err()
	}, idempotent(db)...)
}

// idempotent has a statement repeated if its connection is lost, unless db cannot have another.
func idempotent(db DB) []occ.RetryOption {
	switch db.(type) {
	case *pgx.Conn, *pgxpool.Conn:
		return nil
	}
	return []occ.RetryOption{occ.WithIdempotent()}
}

// execute runs a statement and returns the ID of the job that it has started, if any: DSQL answers
// with a row job_id and the tag of DDL. A column of that name in anybody's table is no job's.
func execute(ctx context.Context, db querier, sql string) (jobID string, err error) {
	rows, err := db.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() {
		if columns := rows.FieldDescriptions(); len(columns) == 1 && columns[0].Name == "job_id" {
			jobID = string(rows.RawValues()[0])
		}
	}
	if tag := rows.CommandTag().String(); !strings.HasPrefix(tag, "CREATE ") && !strings.HasPrefix(tag, "ALTER ") {
		jobID = ""
	}
	return jobID, rows.Err()
}
