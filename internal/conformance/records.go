// Package conformance runs recorded statements, and scenarios of two sessions, against a cluster,
// and compares what it answers with the records. dsqltest's tests do so with a local cluster; make
// conformance DSQL_ENDPOINT=… does so with a real one, in schemas of its own.
package conformance

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// File is what one source has of DSQL's answers.
type File struct {
	Source    string     `json:"source"`
	Date      string     `json:"date"`
	Class     string     `json:"class"` // recorded, observed or documented
	Region    string     `json:"region,omitempty"`
	Version   string     `json:"version,omitempty"`
	Rows      []Row      `json:"rows,omitempty"` // in this order, on one cluster
	Scenarios []Scenario `json:"scenarios,omitempty"`

	Name string `json:"-"` // of the file
}

// Row is what DSQL answers a statement.
type Row struct {
	Setup      []string `json:"setup,omitempty"` // before it; one that begins with ! fails
	SQL        string   `json:"sql"`
	Code       string   `json:"code,omitempty"`       // SQLSTATE; empty: it works
	Message    string   `json:"message,omitempty"`    // a part of it
	Refused    bool     `json:"refused,omitempty"`    // in unknown words
	Tag        string   `json:"tag,omitempty"`        // empty: any
	Value      string   `json:"value,omitempty"`      // the first of the first row; empty: any
	Last       string   `json:"last,omitempty"`       // a part of the last of the last row
	Difference string   `json:"difference,omitempty"` // how a cluster of dsqltest differs, on some PostgreSQL at least
	Undecided  string   `json:"undecided,omitempty"`  // why another answer may be right; the row is not compared
	Source     string   `json:"source,omitempty"`     // if not the file's
	Class      string   `json:"class,omitempty"`      // if not the file's
}

// Scenario is what DSQL answers the statements of two sessions, or more, in their order.
type Scenario struct {
	Name      string   `json:"name"`
	Setup     []string `json:"setup,omitempty"` // by a session of its own
	Steps     []Step   `json:"steps"`
	Undecided string   `json:"undecided,omitempty"` // why other answers may be right; it is not compared
	Source    string   `json:"source,omitempty"`    // if not the file's
	Class     string   `json:"class,omitempty"`     // if not the file's
}

// Step is a statement of a scenario.
type Step struct {
	Session string `json:"session"`
	Row
}

// Load reads the files *.json of the directories.
func Load(dirs ...string) ([]File, error) {
	var files []File
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			loaded, err := load(name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			files = append(files, loaded...)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no records in %s", strings.Join(dirs, ", "))
	}
	return files, nil
}

// load reads a file of one source, or of a cluster's answers.
func load(name string) ([]File, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var several Answers
	if decode(data, &several) == nil && len(several.Files) > 0 {
		for i := range several.Files {
			several.Files[i].Name = fmt.Sprintf("%s#%d", filepath.Base(name), i+1)
			if err := several.Files[i].complete(); err != nil {
				return nil, err
			}
		}
		return several.Files, nil
	}
	file := File{Name: filepath.Base(name)}
	if err := decode(data, &file); err != nil {
		return nil, err
	}
	return []File{file}, file.complete()
}

func decode(data []byte, to any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(to)
}

// complete checks a file, and lets its rows and scenarios have its source and class.
func (file *File) complete() error {
	if file.Date == "" || file.Source == "" {
		return errors.New("must have a source and a date")
	}
	classes := []string{"recorded", "observed", "documented"}
	for i := range file.Rows {
		row := &file.Rows[i]
		row.Source, row.Class = cmp.Or(row.Source, file.Source), cmp.Or(row.Class, file.Class)
		if !slices.Contains(classes, row.Class) {
			return fmt.Errorf("%s: the class %q must be one of %v", row.SQL, row.Class, classes)
		}
	}
	for i := range file.Scenarios {
		s := &file.Scenarios[i]
		s.Source, s.Class = cmp.Or(s.Source, file.Source), cmp.Or(s.Class, file.Class)
		if !slices.Contains(classes, s.Class) {
			return fmt.Errorf("%s: the class %q must be one of %v", s.Name, s.Class, classes)
		}
	}
	return nil
}

// Answer is what a cluster answers a statement.
type Answer struct {
	Code    string `json:"code,omitempty"` // SQLSTATE; empty: it works
	Message string `json:"message,omitempty"`
	Tag     string `json:"tag,omitempty"`
	Value   string `json:"value,omitempty"` // the first of the first row, as text
	Last    string `json:"last,omitempty"`  // the first of the last row
	Skipped string `json:"skipped,omitempty"`
}

// String returns the answer in a few words.
func (a Answer) String() string {
	switch {
	case a.Code != "":
		return a.Code + " " + a.Message
	case a.Value != "":
		return fmt.Sprintf("%s %q", a.Tag, a.Value)
	}
	return a.Tag
}

// Compare returns how an answer differs from the row; nil if it does not.
func (r Row) Compare(a Answer) error {
	switch {
	case r.Refused && a.Code == "":
		return fmt.Errorf("%v, not an error", a)
	case r.Refused:
		return nil
	case r.Code != a.Code || !strings.Contains(a.Message, r.Message):
		return fmt.Errorf("%v, not %s", a, r.expected())
	case r.Code != "":
		return nil
	case r.Tag != "" && a.Tag != r.Tag:
		return fmt.Errorf("the tag is %q, not %q", a.Tag, r.Tag)
	case r.Value != "" && a.Value != r.Value:
		return fmt.Errorf("the value is %q, not %q", a.Value, r.Value)
	case !strings.Contains(a.Last, r.Last):
		return fmt.Errorf("the last value is %q, not %q", a.Last, r.Last)
	}
	return nil
}

func (r Row) expected() string {
	if r.Code == "" {
		return "success"
	}
	return strings.TrimSpace(r.Code + " " + r.Message)
}

// answered returns the row with an answer in place of the expected one. Of values, which may be
// random, only those are kept that the row is about.
func (r Row) answered(a Answer) Row {
	of := Row{Setup: r.Setup, SQL: r.SQL, Code: a.Code, Message: a.Message, Tag: a.Tag}
	if r.Value != "" {
		of.Value = a.Value
	}
	if r.Last != "" {
		of.Last = a.Last
	}
	return of
}

// same reports whether two answers are the same as far as the row is about them.
func (r Row) same(a, b Answer) bool {
	x, y := r.answered(a), r.answered(b)
	return x.Code == y.Code && x.Message == y.Message && x.Tag == y.Tag && x.Value == y.Value && x.Last == y.Last
}
