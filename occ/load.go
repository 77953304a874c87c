package occ

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// Defaults and bounds of [LoadOptions]. DSQL allows 3,000 rows and 10 MiB in a transaction, index
// entries included in the bytes.
const (
	defaultLoadRows  = 1000
	maxLoadRows      = 3000
	defaultLoadBytes = 2 << 20
	maxLoadBytes     = 8 << 20
	maxLoadWorkers   = 1000
	maxParameters    = 65535 // of a statement

	// defaultLoadWorkers hides round trips and commits behind the work of others, and is far from
	// DSQL's limit of 100 new connections a second. It is also that of the command dsql load.
	defaultLoadWorkers = 8

	// maxUnknown is how often in a row the outcome of one batch may be unknown.
	maxUnknown = 10
)

// LoadOptions says where [Load] inserts rows, and how. Table, Columns and Key are required.
type LoadOptions struct {
	// Table is the table's name, after its schema if there is one: {"app", "orders"}.
	Table pgx.Identifier
	// Columns names the columns of the values of each row.
	Columns []string
	// Key names those of Columns that a primary key or a unique index is on. It makes a batch
	// idempotent: a row whose key is in the table already is not inserted again. A row with a NULL
	// in one of them is rejected: NULL is not equal to NULL, so it would be inserted each time,
	// unless the index is NULLS NOT DISTINCT, which Load does not look at.
	Key []string
	// Update overwrites the row that has the same key. By default that row stays as it is. If
	// several rows have the same key, any of them may win; with one worker the last one wins, or
	// without Update the first.
	Update bool

	// MaxRows is how many rows a transaction inserts, at most 3,000. 0: 1,000.
	MaxRows int
	// MaxBytes bounds the values of a transaction in bytes, at most 8 MiB. A row that is larger
	// has a transaction of its own. 0: 2 MiB.
	MaxBytes int
	// Workers is how many transactions run at the same time, at most 1,000; those beyond the
	// connections of a pool wait for one. 0: 8. A single connection has one.
	Workers int
	// Retry sets how transactions are retried.
	Retry []RetryOption

	// OnReject is called for each row that is refused because of its values: by the database, for a
	// NULL in its key, or because it does not fit into one message (10 MiB). An error ends Load.
	// Nil: the first refused row ends Load.
	OnReject func(row LoadRow, reason error) error
	// OnProgress is called after each batch. Nil: not called. OnReject and OnProgress are never
	// called at the same time.
	OnProgress func(LoadProgress)
}

// LoadRow is a row for [Load]. Values are what pgx takes as arguments; a string is valid for
// a column of any type.
type LoadRow struct {
	Values []any
	Line   int // identifies the row, such as the line in a file
	Source any // the caller's own, for OnReject
}

// LoadProgress counts rows that are settled.
type LoadProgress struct {
	Inserted int64 // written now
	Present  int64 // in the table already, matched by key
	Rejected int64
	// Line is that of a row which is settled, as are all rows before it. A load that ended early
	// may be resumed after it; starting over is safe, too.
	Line int
}

// Load inserts rows in transactions that stay under DSQL's limits, several at a time, each retried
// as [RunTx] does. Batches are idempotent by their key, so one whose COMMIT had an unknown outcome
// is run again, and a load that ended early may be resumed or started over.
//
// A batch that the database refuses because of its rows (SQLSTATE classes 21, 22, 23 and 54, and
// 08P01 for a message that is too long) is divided until the rows at fault are found, which go to
// OnReject. Any other error ends Load, as does the first error that rows yields; the progress
// returned says how far it came. After ctx ends, Load returns as soon as rows yields or returns.
func Load(ctx context.Context, db TxBeginner, rows iter.Seq2[LoadRow, error], o LoadOptions) (LoadProgress, error) {
	l, err := newLoad(db, o)
	if err != nil {
		return LoadProgress{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches := make(chan loadBatch)
	var workers sync.WaitGroup
	for range l.o.Workers {
		workers.Go(func() {
			for b := range batches {
				if err := l.settle(ctx, b); err != nil {
					cancel(err)
				}
			}
		})
	}
	err = l.divide(ctx, rows, batches)
	close(batches)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return l.progress, err
}

// loadBatch is the rows of one transaction, and those between them that are not sent.
type loadBatch struct {
	number  int
	rows    []LoadRow
	rejects []reject
	line    int // of the last one
}

// load is the state of one call.
type load struct {
	db     TxBeginner
	o      LoadOptions
	insert string // the statement up to VALUES
	upsert string // what follows the rows

	mu       sync.Mutex // guards what follows, and the calls to OnReject and OnProgress
	progress LoadProgress
	next     int         // the first batch that is not settled
	settled  map[int]int // last lines of later ones
}

func newLoad(db TxBeginner, o LoadOptions) (*load, error) {
	var missing []string
	for _, field := range []struct {
		name  string
		given []string
	}{{"a Table", o.Table}, {"Columns", o.Columns}, {"a Key", o.Key}} {
		if len(field.given) == 0 {
			missing = append(missing, field.name)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("occ: LoadOptions must have %s: it has the Table %q, Columns %q and Key %q",
			strings.Join(missing, " and "), []string(o.Table), o.Columns, o.Key)
	}
	for _, column := range o.Key {
		if !slices.Contains(o.Columns, column) {
			return nil, fmt.Errorf("occ: the key column %q must be one of the columns %q", column, o.Columns)
		}
	}
	for _, bound := range []struct {
		name     string
		value    *int
		max, def int
	}{
		{"MaxRows", &o.MaxRows, maxLoadRows, defaultLoadRows},
		{"MaxBytes", &o.MaxBytes, maxLoadBytes, defaultLoadBytes},
		{"Workers", &o.Workers, maxLoadWorkers, defaultLoadWorkers},
	} {
		if *bound.value < 0 || *bound.value > bound.max {
			return nil, fmt.Errorf("occ: invalid %s %d: must be 1 to %d, or 0 for %d", bound.name, *bound.value, bound.max, bound.def)
		}
		if *bound.value == 0 {
			*bound.value = bound.def
		}
	}
	if len(o.Columns) > maxParameters {
		return nil, fmt.Errorf("occ: %d columns are more than a statement has parameters, %d", len(o.Columns), maxParameters)
	}
	o.MaxRows = min(o.MaxRows, maxParameters/len(o.Columns))
	if ownConn(db) != nil {
		o.Workers = 1
	}
	if err := new(policy).set(o.Retry); err != nil {
		return nil, err
	}
	l := &load{db: db, o: o, settled: make(map[int]int)}
	l.insert = "INSERT INTO " + o.Table.Sanitize() + " (" + identifiers(o.Columns) + ") VALUES "
	l.upsert = " ON CONFLICT (" + identifiers(o.Key) + ") DO NOTHING"
	if o.Update {
		l.upsert = " ON CONFLICT (" + identifiers(o.Key) + ") DO UPDATE SET " + assignments(o)
	}
	return l, nil
}

func identifiers(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = pgx.Identifier{name}.Sanitize()
	}
	return strings.Join(quoted, ", ")
}

// assignments overwrite what is not the key; where everything is, the key.
func assignments(o LoadOptions) string {
	var sets []string
	for _, column := range o.Columns {
		if !slices.Contains(o.Key, column) || len(o.Key) == len(o.Columns) {
			name := pgx.Identifier{column}.Sanitize()
			sets = append(sets, name+" = EXCLUDED."+name)
		}
	}
	return strings.Join(sets, ", ")
}

// divide sends rows to the workers in batches.
func (l *load) divide(ctx context.Context, rows iter.Seq2[LoadRow, error], batches chan<- loadBatch) error {
	var b loadBatch
	size := 0
	send := func() bool {
		if len(b.rows)+len(b.rejects) == 0 {
			return true
		}
		select {
		case batches <- b:
		case <-ctx.Done():
			return false
		}
		b, size = loadBatch{number: b.number + 1}, 0
		return true
	}
	for row, err := range rows {
		if err != nil {
			send() // what came before it is good
			return err
		}
		if len(row.Values) != len(l.o.Columns) {
			return fmt.Errorf("occ: the row of line %d has %d values for %d columns", row.Line, len(row.Values), len(l.o.Columns))
		}
		n := sizeOf(row)
		full := len(b.rows)+len(b.rejects) == l.o.MaxRows || size+n > l.o.MaxBytes
		if full && !send() {
			return nil
		}
		if reason := l.o.refuses(row, n); reason != nil {
			b.rejects = append(b.rejects, reject{row, reason})
		} else {
			b.rows = append(b.rows, row)
		}
		b.line = row.Line
		size += n
		if ctx.Err() != nil {
			return nil
		}
	}
	send()
	return nil
}

// settle has a batch inserted, and reports it.
func (l *load) settle(ctx context.Context, b loadBatch) error {
	did := outcome{rejects: b.rejects}
	var err error
	if len(b.rows) > 0 {
		err = l.insertOrSplit(ctx, b.rows, &did)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress.Inserted += did.inserted
	l.progress.Present += did.present
	if err != nil {
		return err
	}
	for _, r := range did.rejects {
		if l.o.OnReject == nil {
			return fmt.Errorf("occ: the row of line %d: %w", r.row.Line, r.reason)
		}
		if err := l.o.OnReject(r.row, r.reason); err != nil {
			return err
		}
		l.progress.Rejected++
	}
	l.settled[b.number] = b.line
	for line, ok := l.settled[l.next]; ok; line, ok = l.settled[l.next] {
		delete(l.settled, l.next)
		l.progress.Line = line
		l.next++
	}
	if l.o.OnProgress != nil {
		l.o.OnProgress(l.progress)
	}
	return nil
}

// outcome is what became of a batch's rows.
type outcome struct {
	inserted, present int64
	rejects           []reject
}

type reject struct {
	row    LoadRow
	reason error
}

// insertOrSplit inserts rows, in two halves if some of them are refused.
func (l *load) insertOrSplit(ctx context.Context, rows []LoadRow, did *outcome) error {
	n, err := l.insertRows(ctx, rows)
	switch {
	case err == nil:
		did.inserted += n
		did.present += int64(len(rows)) - n
		return nil
	case !sqlstate.Has(err, isAboutRows):
		return err
	case len(rows) == 1:
		did.rejects = append(did.rejects, reject{rows[0], err})
		return nil
	}
	half := len(rows) / 2
	if err := l.insertOrSplit(ctx, rows[:half], did); err != nil {
		return err
	}
	return l.insertOrSplit(ctx, rows[half:], did)
}

// isAboutRows reports whether fewer rows, or others, may be accepted.
func isAboutRows(e sqlstate.Error) bool {
	code := e.SQLState()
	return code == "08P01" || len(code) == 5 && slices.Contains(aboutRows, code[:2])
}

// aboutRows are classes: a key twice, values, constraints, limits.
var aboutRows = []string{"21", "22", "23", "54"}

// insertRows inserts rows in a transaction, again if its outcome is unknown.
func (l *load) insertRows(ctx context.Context, rows []LoadRow) (inserted int64, err error) {
	sql, args := l.statement(rows)
	for range maxUnknown {
		inserted, err = RunTxValue(ctx, l.db, func(tx pgx.Tx) (int64, error) {
			tag, err := tx.Exec(ctx, sql, args...)
			return tag.RowsAffected(), err
		}, l.o.Retry...)
		var unknown *CommitUnknownError
		if !errors.As(err, &unknown) || ctx.Err() != nil {
			break
		}
	}
	return inserted, err
}

func (l *load) statement(rows []LoadRow) (sql string, args []any) {
	var b strings.Builder
	b.WriteString(l.insert)
	args = make([]any, 0, len(rows)*len(l.o.Columns))
	for i, row := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, value := range row.Values {
			if j == 0 {
				b.WriteByte('(')
			} else {
				b.WriteByte(',')
			}
			args = append(args, value)
			fmt.Fprintf(&b, "$%d", len(args))
		}
		b.WriteByte(')')
	}
	b.WriteString(l.upsert)
	return b.String(), args
}
