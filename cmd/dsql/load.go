package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

// exitRejected is the status of a load that left rows out.
const exitRejected = 3

var loadCommand = &command{
	name:    "load",
	args:    "TABLE FILE.csv... [FLAGS]",
	summary: "load CSV files into a table",
	about: `
Inserts the rows of CSV files into TABLE, in transactions that stay under DSQL's limits of 3,000
rows and 10 MiB, several at a time, each retried on conflict and after lost connections. The first
line of a file names the columns, unless --columns does. As in PostgreSQL's COPY, an empty field is
NULL and a quoted empty one is the empty text. FILE - is standard input.

Each transaction is idempotent, which takes a key: the table's primary key, or with --key the
columns of a unique index. The file must have its columns. A row whose key is in the table already
is left as it is, or overwritten with --on-conflict update. Of rows that have the same key in one
file, any may win. With --workers 1 it is the first, or with --on-conflict update the last.

Rows that the database refuses, that have too many or too few fields, or NULL in a column of the
key, go to a reject file, FILE.rejects unless --rejects names one: CSV with the line, the reason and
the row. The progress is kept in FILE.progress until the file is loaded, and the same command
continues there after an interruption. A load that does not continue empties the reject file first.

Rows that refer to other rows of the same file by a foreign key need --workers 1.`,
	examples: `
dsql load orders orders.csv --endpoint ENDPOINT
dsql load app.orders 2025.csv 2026.csv --user app --key tenant,id --on-conflict update
gunzip -c big.csv.gz | dsql load events - --rejects events.rejects`,
	statuses: `
3    everything else was loaded, and some rows were rejected`,
	define: func(flags *flag.FlagSet) func(context.Context, streams, arguments) error {
		l := &loader{workers: 8, rows: 1000}
		text(flags, &l.endpoint, "endpoint", "the cluster's `ENDPOINT`; by default DSQL_ENDPOINT")
		l.target.define(flags)
		l.target.defineRoute(flags)
		text(flags, &l.columns, "columns", "`NAMES` of the columns, separated by commas, of files without a first line of names")
		text(flags, &l.key, "key", "`COLUMNS` of the key, separated by commas; by default the primary key")
		flags.StringVar(&l.onConflict, "on-conflict", "skip", "what to do with a row whose key is in the table: `skip|update`")
		flags.StringVar(&l.delimiter, "delimiter", ",", "`CHARACTER` between fields; \\t is a tab")
		flags.StringVar(&l.null, "null", "", "`TEXT` that means NULL where it is not quoted; by default the empty one")
		flags.IntVar(&l.rows, "rows", l.rows, "`NUMBER` of rows in a transaction, at most 3000")
		flags.IntVar(&l.workers, "workers", l.workers, "`NUMBER` of transactions at the same time, at most 100")
		text(flags, &l.rejects, "rejects", "`FILE` for rejected rows; by default FILE.rejects next to each file")
		flags.Int64Var(&l.maxRejects, "max-rejects", 1000, "`NUMBER` of rejected rows after which the load stops")
		flags.BoolVar(&l.restart, "restart", false, "start over, whatever FILE.progress says")
		return func(ctx context.Context, std streams, given arguments) error {
			words := append(given.words, given.rest...)
			if len(words) < 2 {
				return usageError("load: TABLE and FILE are required: run dsql help load")
			}
			if len(words) > 2 && l.rejects != "" {
				return usageError("load: --rejects is for one file: load the %d files one by one, or leave it out", len(words)-1)
			}
			return l.run(ctx, std, words[0], words[1:])
		}
	},
}

// loader is what the flags of one load say, and what follows from them.
type loader struct {
	target                                                       target
	endpoint, columns, key, onConflict, delimiter, null, rejects string
	rows, workers                                                int
	maxRejects                                                   int64
	restart                                                      bool
	pool                                                         *pgxpool.Pool
	table                                                        pgx.Identifier
	comma                                                        byte
	display                                                      *display
	loaded, present, rejected                                    int64 // of the files before this one
}

func (l *loader) run(ctx context.Context, std streams, table string, files []string) error {
	if err := l.check(table); err != nil {
		return err
	}
	if err := l.checkRejects(files); err != nil {
		return err
	}
	cfg, err := l.target.config(l.endpoint)
	if err != nil {
		return err
	}
	cfg.PoolConfig = func(p *pgxpool.Config) error {
		p.MaxConns = int32(l.workers)
		return nil
	}
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return err
	}
	if l.pool, err = pgxpool.NewWithConfig(ctx, connector.PoolConfig()); err != nil {
		return err
	}
	defer l.pool.Close()
	if l.key == "" {
		if err := l.findKey(ctx); err != nil {
			return err
		}
	}
	l.display = newDisplay(std.err)
	for _, file := range files {
		if err := l.load(ctx, std, file); err != nil {
			l.display.end()
			return err
		}
	}
	l.display.end()
	fmt.Fprintf(std.out, "%d rows inserted, %d present, %d rejected, in %v\n",
		l.loaded, l.present, l.rejected, l.display.elapsed().Round(10*time.Millisecond))
	if l.rejected > 0 {
		return &exitError{exitRejected, fmt.Errorf("dsql: %d rows were rejected: see %s", l.rejected, cmp.Or(l.rejects, "FILE.rejects"))}
	}
	return nil
}

func (l *loader) check(table string) (err error) {
	switch {
	case l.onConflict != "skip" && l.onConflict != "update":
		return usageError("load: invalid --on-conflict %q: must be skip or update", l.onConflict)
	case l.rows < 1 || l.rows > 3000:
		return usageError("load: invalid --rows %d: must be 1 to 3000", l.rows)
	case l.workers < 1 || l.workers > 100:
		return usageError("load: invalid --workers %d: must be 1 to 100", l.workers)
	case l.maxRejects < 0:
		return usageError("load: invalid --max-rejects %d: must be 0 or more", l.maxRejects)
	}
	delimiter := strings.ReplaceAll(l.delimiter, `\t`, "\t")
	if len(delimiter) != 1 || strings.ContainsAny(delimiter, "\"\r\n") {
		return usageError("load: invalid --delimiter %q: must be one character, no quote and no line end", l.delimiter)
	}
	l.comma = delimiter[0]
	l.table, err = parseTable(table)
	return err
}

// parseTable reads a table's name as SQL does: a name in double quotes stays as it is, others are
// folded to lower case.
func parseTable(given string) (pgx.Identifier, error) {
	var table pgx.Identifier
	for _, part := range splitCSV(given, '.') {
		name := part.value
		if !part.quoted {
			name = strings.ToLower(name)
		}
		if name == "" {
			return nil, usageError("load: %q is not a table's name: use TABLE or SCHEMA.TABLE", given)
		}
		table = append(table, name)
	}
	if len(table) > 2 || strings.Count(given, `"`)%2 != 0 {
		return nil, usageError("load: %q is not a table's name: use TABLE or SCHEMA.TABLE", given)
	}
	return table, nil
}

// findKey takes the table's primary key.
func (l *loader) findKey(ctx context.Context) error {
	schema := ""
	if len(l.table) == 2 {
		schema = l.table[0]
	}
	var key []string
	var exists bool
	err := occ.Retry(ctx, func(ctx context.Context) error {
		rows, err := l.pool.Query(ctx, `
			SELECT a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
			LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
			WHERE c.relname = $1 AND c.relkind = 'r' AND CASE $2::text WHEN '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $2 END`,
			l.table[len(l.table)-1], schema)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[*string])
		exists = len(names) > 0
		key = nil
		for _, name := range names {
			if name != nil {
				key = append(key, *name)
			}
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case !exists:
		return fmt.Errorf("dsql: there is no table %s that %s can see", l.table.Sanitize(), l.pool.Config().ConnConfig.User)
	case len(key) == 0:
		return fmt.Errorf("dsql: the table %s has no primary key, which makes a load safe to repeat: name the columns of a unique index with --key", l.table.Sanitize())
	}
	l.key = strings.Join(key, ",")
	return nil
}

// load loads one file.
func (l *loader) load(ctx context.Context, std streams, name string) error {
	f, err := openLoadFile(ctx, name, std.in, l)
	if err != nil {
		return err
	}
	defer f.close()
	columns, err := f.columns(l.columns)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return fmt.Errorf("dsql: %s: %w", name, err)
	}
	key := strings.Split(l.key, ",")
	for _, column := range key {
		if !slices.Contains(columns, column) {
			return fmt.Errorf("dsql: %s has no column %q, which is in the key: it has %s", name, column, strings.Join(columns, ", "))
		}
	}
	if err := f.begin(); err != nil {
		return err
	}
	progress, err := occ.Load(ctx, l.pool, f.rows(len(columns), l.null), occ.LoadOptions{
		Table:   l.table,
		Columns: columns,
		Key:     key,
		Update:  l.onConflict == "update",
		MaxRows: l.rows,
		Workers: l.workers,
		Retry:   []occ.RetryOption{occ.WithMaxElapsed(5 * time.Minute)},
		OnReject: func(row occ.LoadRow, reason error) error {
			return f.reject(row.Line, reasonOf(reason), row.Source.(string))
		},
		OnProgress: func(p occ.LoadProgress) {
			f.keep(p.Line)
			l.display.show(l.loaded+p.Inserted, l.present+p.Present, l.rejected+f.rejectedRows(), f.share())
		},
	})
	l.loaded += progress.Inserted
	l.present += progress.Present
	l.rejected += f.rejected
	if err != nil {
		f.keepNow()
		return f.stopped(ctx, err)
	}
	return f.removeProgress()
}

// reasonOf is what the server said.
func reasonOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code + " " + pg.Message
	}
	return err.Error()
}

var errInterrupted = errors.New("dsql: interrupted")

// stopped says where a load that ended early continues.
func (f *loadFile) stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = errInterrupted
	}
	if f.progress == "" {
		return fmt.Errorf("%w; start over: rows that are there are left as they are", err)
	}
	if _, statErr := os.Stat(f.progress); statErr != nil {
		return err
	}
	return fmt.Errorf("%w; %s is loaded up to line %d: the same command continues there", err, f.name, f.kept)
}
