package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// prefix begins the names of a run's schemas.
const prefix = "dsql_conformance_"

// The quotas of a cluster that matter to a run.
const (
	maxSchemas  = 10
	maxTables   = 1000
	needSchemas = 4
	needTables  = 250
)

// Cluster is the cluster that statements are run against.
type Cluster struct {
	// Connect opens a session as admin whose search_path is a schema.
	Connect func(ctx context.Context, schema string) (*pgx.Conn, error)
}

// value returns what a query returns, as text.
func (c Cluster) value(ctx context.Context, sql string) (string, error) {
	conn, err := c.Connect(ctx, "public")
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	answer, err := Put(ctx, conn, pgx.QueryExecModeExec, Row{SQL: sql})
	if err == nil && answer.Code != "" {
		err = fmt.Errorf("%s: %v", sql, answer)
	}
	return answer.Value, err
}

// Identity returns the version of PostgreSQL and of DSQL that the cluster reports.
func (c Cluster) Identity(ctx context.Context) (version string, err error) {
	return c.value(ctx, "SELECT current_setting('server_version') || ', DSQL ' || sys.dsql_major_version()::text")
}

const notSystem = `nspname NOT IN ('sys', 'information_schema') AND nspname !~ '^pg_'`

// CheckQuotas returns an error if the cluster has no room for the run's schemas and tables.
func (c Cluster) CheckQuotas(ctx context.Context) error {
	for _, quota := range []struct {
		sql       string
		max, need int
		what      string
	}{
		{"SELECT count(*)::text FROM pg_namespace WHERE nspname <> 'public' AND " + notSystem, maxSchemas, needSchemas, "schemas"},
		{"SELECT count(*)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE relkind = 'r' AND " + notSystem, maxTables, needTables, "tables"},
	} {
		count, err := c.value(ctx, quota.sql)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		if n > quota.max-quota.need {
			return fmt.Errorf("the cluster has %d %s of %d: the run needs %d: drop some, or use another cluster", n, quota.what, quota.max, quota.need)
		}
	}
	return nil
}

// Leftovers returns the schemas that runs have left.
func (c Cluster) Leftovers(ctx context.Context) ([]string, error) {
	names, err := c.value(ctx, "SELECT string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace WHERE starts_with(nspname, '"+prefix+"')")
	if err != nil || names == "" {
		return nil, err
	}
	return strings.Split(names, ","), nil
}

// Drop drops schemas with what is in them, each in a transaction of its own.
func (c Cluster) Drop(ctx context.Context, schemas ...string) error {
	if len(schemas) == 0 {
		return nil
	}
	conn, err := c.Connect(ctx, "public")
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	var errs []error
	for _, schema := range schemas {
		if !strings.HasPrefix(schema, prefix) {
			return fmt.Errorf("%q is not a schema of a run", schema)
		}
		errs = append(errs, apply(ctx, conn, "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE"))
	}
	return errors.Join(errs...)
}

// apply executes a statement that is to work, again after a conflict.
func apply(ctx context.Context, conn *pgx.Conn, sql string) error {
	answer, err := Put(ctx, conn, pgx.QueryExecModeExec, Row{SQL: sql})
	if err == nil && answer.Code != "" {
		err = fmt.Errorf("%s: %v", sql, answer)
	}
	return err
}

// lost is the code for no answer: the connection ended, the time was over, or a
// statement before it went otherwise.
const lost = "-"

// Result is what a cluster answers the statements of a file, in their order.
type Result struct {
	Rows      []Answer   `json:"rows"`
	Scenarios [][]Answer `json:"scenarios"`
}

// Schema returns a name for the schema of a run.
func Schema() string { return prefix + strings.ToLower(rand.Text()[:8]) }

// Run runs the statements of a file against the cluster, in a schema of that name and others whose
// names begin with it, and drops them, after an interruption too.
func (c Cluster) Run(ctx context.Context, file File, schema string) (result Result, err error) {
	in := &confinement{schema: schema, created: map[string]string{}}
	admin, err := c.Connect(ctx, "public")
	if err != nil {
		return result, err
	}
	defer admin.Close(context.Background())
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, c.Drop(cleanup, in.schemas()...))
	}()
	if err := apply(ctx, admin, "CREATE SCHEMA "+schema); err != nil {
		return result, err
	}
	r := &runner{cluster: c, in: in}
	defer r.close()
	if len(file.Rows) > 0 {
		if err := r.table(ctx); err != nil {
			return result, err
		}
	}
	for _, row := range file.Rows {
		answer, err := r.row(ctx, "main", row)
		if err != nil {
			return result, fmt.Errorf("%s: %w", row.SQL, err)
		}
		result.Rows = append(result.Rows, answer)
	}
	for _, s := range file.Scenarios {
		answers, err := r.scenario(ctx, s)
		if err != nil {
			return result, fmt.Errorf("%s: %w", s.Name, err)
		}
		result.Scenarios = append(result.Scenarios, answers)
	}
	return result, nil
}

// Table is the table that the rows of a file begin with.
var Table = []string{"CREATE TABLE t (id int PRIMARY KEY, n int, s text, j jsonb, b bytea)", "INSERT INTO t SELECT i, i FROM generate_series(1, 10) i"}

type runner struct {
	cluster  Cluster
	in       *confinement
	sessions map[string]*pgx.Conn
	jobs     []string // asynchronous jobs that may not have ended
}

func (r *runner) close() {
	for _, conn := range r.sessions {
		conn.Close(context.Background())
	}
	r.sessions = nil
}

// session returns the session of a name. One that the cluster has closed is opened again.
func (r *runner) session(ctx context.Context, name string) (*pgx.Conn, error) {
	if conn := r.sessions[name]; conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	conn, err := r.cluster.Connect(ctx, r.in.schema)
	if err != nil {
		return nil, err
	}
	if r.sessions == nil {
		r.sessions = map[string]*pgx.Conn{}
	}
	r.sessions[name] = conn
	return conn, nil
}

func (r *runner) table(ctx context.Context) error {
	conn, err := r.session(ctx, "main")
	for _, sql := range Table {
		if err == nil {
			err = apply(ctx, conn, sql)
		}
	}
	return err
}

// row runs a row in a session. That a statement before it fails, or that the connection ends, is
// its answer.
func (r *runner) row(ctx context.Context, session string, row Row) (Answer, error) {
	row, why := r.in.prepare(row)
	if why != "" {
		return Answer{Skipped: why}, nil
	}
	conn, err := r.session(ctx, session)
	if err != nil {
		return Answer{}, err
	}
	if strings.Contains(row.SQL, "USING INDEX") || strings.Contains(row.SQL, "pg_sleep") {
		if err := r.awaitJobs(ctx, conn); err != nil {
			return Answer{}, err
		}
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	answer, err := Put(short, conn, pgx.QueryExecModeExec, row)
	if ctx.Err() != nil {
		return Answer{}, ctx.Err()
	}
	r.noteJob(answer)
	if err != nil {
		return r.in.restore(Answer{Code: lost, Message: err.Error()}), nil
	}
	return r.in.restore(answer), nil
}

// noteJob remembers the job that an answer names, if any: 26 characters of base32.
func (r *runner) noteJob(a Answer) {
	if len(a.Value) == 26 && strings.Trim(a.Value, "abcdefghijklmnopqrstuvwxyz234567") == "" {
		r.jobs = append(r.jobs, a.Value)
	}
}

// awaitJobs waits for jobs: on a real cluster, building an index takes seconds.
func (r *runner) awaitJobs(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for len(r.jobs) > 0 {
		answer, err := Put(ctx, conn, pgx.QueryExecModeExec, Row{SQL: "SELECT count(*)::text FROM sys.jobs WHERE status IN ('submitted', 'processing') AND job_id = '" + r.jobs[0] + "'"})
		if err != nil {
			return err
		}
		if answer.Value == "0" || answer.Code != "" {
			r.jobs = r.jobs[1:]
			continue
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the job %s: %w", r.jobs[0], ctx.Err())
		}
	}
	return nil
}

// scenario runs a scenario, and again if a schema change came in between that is not its own: the
// end of an asynchronous job is one.
func (r *runner) scenario(ctx context.Context, s Scenario) (answers []Answer, err error) {
	for attempt := 1; ; attempt++ {
		answers, err = r.attempt(ctx, s)
		disturbed := slices.ContainsFunc(answers, Answer.disturbed)
		expected := slices.ContainsFunc(s.Steps, func(step Step) bool { return strings.Contains(step.Message, "OC001") })
		if err != nil || !disturbed || expected || attempt == 5 {
			return answers, err
		}
		again(ctx, r.sessions["main"], attempt)
	}
}

func (r *runner) attempt(ctx context.Context, s Scenario) ([]Answer, error) {
	admin, err := r.session(ctx, "main")
	if err != nil {
		return nil, err
	}
	for _, sql := range s.Setup {
		if name := target(sql); strings.HasPrefix(strings.ToLower(sql), "create table") {
			if err := apply(ctx, admin, "DROP TABLE IF EXISTS "+name+" CASCADE"); err != nil {
				return nil, err
			}
		}
		if err := apply(ctx, admin, sql); err != nil {
			return nil, err
		}
	}
	for _, step := range s.Steps { // the first statement after a schema change may fail because of it
		conn, err := r.session(ctx, step.Session)
		if err == nil {
			err = apply(ctx, conn, "SELECT count(*) FROM pg_class")
		}
		if err != nil {
			return nil, err
		}
	}
	var answers []Answer
	for _, step := range s.Steps {
		row, why := r.in.prepare(step.Row)
		if why != "" {
			return nil, fmt.Errorf("%s %s", row.SQL, why)
		}
		conn, err := r.session(ctx, step.Session)
		if err != nil {
			return nil, err
		}
		short, cancel := context.WithTimeout(ctx, 30*time.Second)
		answer, err := PutOnce(short, conn, pgx.QueryExecModeExec, row.SQL)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			answer = Answer{Code: lost, Message: err.Error()}
		}
		answers = append(answers, r.in.restore(answer))
	}
	for name, conn := range r.sessions {
		if !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
			if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
				return nil, fmt.Errorf("session %s: %w", name, err)
			}
		}
	}
	return answers, nil
}
