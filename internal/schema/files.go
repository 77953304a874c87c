// Package schema applies SQL files to a cluster as DSQL requires it: one DDL statement for each
// transaction, and the jobs that statements start waited for.
package schema

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/go-dsql/dsql/internal/dialect"
)

// Unit is what is executed, and retried, as a whole: one statement, or the statements from BEGIN to
// COMMIT.
type Unit struct {
	File       string
	Statements []string
}

// marker tells a migration tool's files by a line that begins what is to be applied.
type marker struct{ tool, up, down, statementBegin, statementEnd string }

var markers = []marker{
	{"goose", "-- +goose up", "-- +goose down", "-- +goose statementbegin", "-- +goose statementend"},
	{"sql-migrate", "-- +migrate up", "-- +migrate down", "-- +migrate statementbegin", "-- +migrate statementend"},
	{"dbmate", "-- migrate:up", "-- migrate:down", "", ""},
}

// refusedMarkers are lines of tools and features that cannot be applied as they would.
var refusedMarkers = map[string]string{
	"-- +goose envsub on":                 "goose with ENVSUB",
	"---- create above / drop below ----": "tern",
	"--liquibase formatted sql":           "Liquibase",
}

// Read returns the text of the files *.sql in the root of fsys by name.
func Read(fsys fs.FS) (map[string]string, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("listing the schema files: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("the schema must have files *.sql in its root")
	}
	files := make(map[string]string)
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		files[name] = strings.TrimPrefix(string(text), "\ufeff") // the byte order mark of some editors
	}
	return files, nil
}

// Parse returns what to execute, in order. Files of migration tools are recognized; only what
// they apply going up counts.
func Parse(files map[string]string) ([]Unit, error) {
	files, tool, err := selectFiles(files)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if tool != "" {
			if order := cmp.Compare(fileVersion(a), fileVersion(b)); order != 0 {
				return order
			}
		}
		return cmp.Compare(a, b)
	})
	var units []Unit
	for _, name := range names {
		statements, err := upStatements(name, files[name], tool)
		if err != nil {
			return nil, err
		}
		grouped, err := groupTransactions(name, statements)
		if err != nil {
			return nil, err
		}
		units = append(units, grouped...)
	}
	return units, nil
}

// selectFiles recognizes the tool and leaves out files that only undo.
func selectFiles(files map[string]string) (selected map[string]string, tool string, err error) {
	selected = make(map[string]string)
	for name, text := range files {
		if strings.HasSuffix(name, ".up.sql") {
			selected[name] = text
		}
		for line := range strings.Lines(text) {
			if refused := refusedBy(line); refused != "" {
				return nil, "", fmt.Errorf("%s: files of %s are not supported: apply them with that tool", name, refused)
			}
		}
	}
	if len(selected) > 0 {
		return selected, "golang-migrate", nil
	}
	for name, text := range files {
		version, description, _ := strings.Cut(name, "__")
		if description != "" && len(version) > 1 && strings.ContainsRune("VU", rune(version[0])) && isNumber(version[1:]) {
			return nil, "", fmt.Errorf("%s: files of Flyway are not supported: apply them with that tool", name)
		}
		if strings.HasSuffix(name, ".down.sql") {
			return nil, "", fmt.Errorf("%s: there must be files *.up.sql too", name)
		}
		for _, m := range markers {
			for line := range strings.Lines(text) {
				if !isMarker(line, m.up) && !isMarker(line, m.down) {
					continue
				}
				if tool != "" && tool != m.tool {
					return nil, "", fmt.Errorf("%s: the schema has files of %s and of %s: must be of one tool", name, tool, m.tool)
				}
				tool = m.tool
			}
		}
	}
	return files, tool, nil
}

// upStatements returns the statements of a file that are to be applied.
func upStatements(name, text, tool string) ([]string, error) {
	i := slices.IndexFunc(markers, func(m marker) bool { return m.tool == tool })
	if i < 0 {
		return dialect.Split(text), nil
	}
	m := markers[i]
	var statements []string
	var part strings.Builder
	flush := func(whole bool) {
		if whole && strings.TrimSpace(part.String()) != "" {
			statements = append(statements, part.String())
		} else {
			statements = append(statements, dialect.Split(part.String())...)
		}
		part.Reset()
	}
	var up, found, whole bool
	for line := range strings.Lines(text) {
		switch {
		case isMarker(line, m.up):
			if found {
				return nil, fmt.Errorf("%s: must have one %q, and has two", name, m.up)
			}
			up, found = true, true
		case isMarker(line, m.down):
			up = false
		case up && m.statementBegin != "" && isMarker(line, m.statementBegin):
			flush(false)
			whole = true
		case up && m.statementEnd != "" && isMarker(line, m.statementEnd):
			flush(whole)
			whole = false
		case up:
			part.WriteString(line)
		case !found && len(dialect.Split(line)) > 0:
			return nil, fmt.Errorf("%s: must begin with %q, as the other files of %s", name, m.up, tool)
		}
	}
	if whole {
		return nil, fmt.Errorf("%s: %q has no %q", name, m.statementBegin, m.statementEnd)
	}
	if !found {
		return nil, fmt.Errorf("%s: must have %q, as the other files of %s", name, m.up, tool)
	}
	flush(false)
	return statements, nil
}

// groupTransactions makes the statements from BEGIN to COMMIT one unit: a conflict at COMMIT undoes
// them all.
func groupTransactions(name string, statements []string) (units []Unit, err error) {
	open := false
	for _, sql := range statements {
		kind := dialect.Parse(sql)[0].Kind
		switch {
		case kind == dialect.Empty:
			continue
		case kind == dialect.Copy:
			return nil, fmt.Errorf("%s: %.200s: COPY FROM must not be in a schema: use INSERT, or load the data otherwise", name, sql)
		case !open && (kind == dialect.Commit || kind == dialect.Rollback):
			return nil, fmt.Errorf("%s: %s: there must be a BEGIN before it", name, sql)
		case kind == dialect.Rollback:
			return nil, fmt.Errorf("%s: BEGIN must be followed by COMMIT, not by %s", name, sql)
		case !open:
			units = append(units, Unit{File: name, Statements: []string{sql}})
			open = kind == dialect.Begin
		default:
			last := &units[len(units)-1]
			last.Statements = append(last.Statements, sql)
			open = kind != dialect.Commit
		}
	}
	if open {
		return nil, fmt.Errorf("%s: BEGIN must be followed by COMMIT in the same file", name)
	}
	return units, nil
}

// isMarker reports whether a line is a marker, whatever its case, with or without more after it.
func isMarker(line, marker string) bool {
	rest, ok := strings.CutPrefix(normalize(line), marker)
	return ok && (rest == "" || rest[0] == ' ')
}

func refusedBy(line string) string {
	line = normalize(line)
	for prefix, tool := range refusedMarkers {
		if strings.HasPrefix(line, prefix) {
			return tool
		}
	}
	return ""
}

// normalize returns a line in lower case with single spaces.
func normalize(line string) string {
	return strings.ToLower(strings.Join(strings.Fields(line), " "))
}

// fileVersion returns the number that a migration's file name begins with.
func fileVersion(name string) uint64 {
	end := strings.IndexFunc(name, func(r rune) bool { return r < '0' || r > '9' })
	version, err := strconv.ParseUint(name[:max(end, 0)], 10, 64)
	if err != nil {
		return 0
	}
	return version
}

func isNumber(s string) bool {
	return strings.Trim(s, "0123456789._") == ""
}
