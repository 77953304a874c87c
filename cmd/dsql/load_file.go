package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsql/dsql/occ"
)

// loadFile is one file on its way into a table.
type loadFile struct {
	name     string
	in       *os.File       // nil: standard input
	pipe     *io.PipeReader // what is read
	counted  *counter
	csv      *csvReader
	size     int64
	progress string // where how far it came is kept; "": nowhere
	table    string

	resumed bool
	start   int // the line after which loading continues

	mu         sync.Mutex // guards the rejects
	rejectName string
	rejectFile *os.File
	rejectCSV  *csv.Writer
	rejected   int64
	maxRejects int64

	latest int // the line up to which all rows are settled
	kept   int // the one that the progress file has
	keptAt time.Time
}

// kept is the content of a progress file.
type keptProgress struct {
	Table string `json:"table"`
	Size  int64  `json:"size"` // of the file, which must not have changed
	Line  int    `json:"line"` // up to which all rows are settled
}

// counter counts the bytes that were read.
type counter struct {
	io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// readUntil reads in until ctx ends, even while in is silent, as a terminal or a pipe may be.
// Closing the reader stops it.
func readUntil(ctx context.Context, in io.Reader) *io.PipeReader {
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
		stop()
	}()
	return r
}

func openLoadFile(ctx context.Context, name string, stdin io.Reader, l *loader) (*loadFile, error) {
	f := &loadFile{name: name, table: l.table.Sanitize(), maxRejects: l.maxRejects - l.rejected}
	in := stdin
	f.rejectName = l.rejects
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("dsql: %w", err)
		}
		info, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("dsql: %w", err)
		}
		f.in, in, f.size, f.progress = file, file, info.Size(), name+".progress"
		if f.rejectName == "" {
			f.rejectName = name + ".rejects"
		}
	}
	if f.rejectName == "" {
		return nil, usageError("load: rows of standard input need --rejects FILE for those that are rejected")
	}
	f.pipe = readUntil(ctx, in)
	f.counted = &counter{Reader: f.pipe}
	f.csv = newCSVReader(f.counted, l.comma)
	if err := f.resume(l.restart); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// resume reads how far an earlier load came.
func (f *loadFile) resume(restart bool) error {
	if f.progress == "" || restart {
		return nil
	}
	data, err := os.ReadFile(f.progress)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var before keptProgress
	if err == nil {
		err = json.Unmarshal(data, &before)
	}
	switch {
	case err != nil:
		return fmt.Errorf("dsql: reading %s: %w: remove it, or use --restart", f.progress, err)
	case before.Table != f.table, before.Size != f.size:
		return fmt.Errorf("dsql: %s is about the table %s and a file of %d bytes, not %s and %d: use --restart", f.progress, before.Table, before.Size, f.table, f.size)
	}
	f.resumed = true
	f.start, f.kept, f.latest = before.Line, before.Line, before.Line
	return nil
}

// begin is called before the first row: what an earlier load left is taken over or removed.
func (f *loadFile) begin() error {
	if f.resumed {
		return f.keepRejects()
	}
	if err := f.removeProgress(); err != nil {
		return err
	}
	return f.clearRejects()
}

// columns returns the names of the columns, which the first line has unless they were given.
func (f *loadFile) columns(given string) ([]string, error) {
	if given != "" {
		return strings.Split(given, ","), nil
	}
	record, err := f.csv.read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: its first line must name the columns")
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, field := range record.fields {
		names = append(names, strings.TrimSpace(field.value))
	}
	return names, nil
}

// rows yields the rows that come after the line where an earlier load ended.
func (f *loadFile) rows(columns int, null string) iter.Seq2[occ.LoadRow, error] {
	return func(yield func(occ.LoadRow, error) bool) {
		for {
			record, err := f.csv.read()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(occ.LoadRow{}, fmt.Errorf("dsql: %s: %w", f.name, err))
				return
			}
			if record.line <= f.start {
				continue
			}
			if len(record.fields) != columns {
				err := f.reject(record.line, fmt.Sprintf("%d fields for %d columns", len(record.fields), columns), record.text)
				if err != nil {
					yield(occ.LoadRow{}, err)
					return
				}
				continue
			}
			row := occ.LoadRow{Line: record.line, Values: make([]any, columns), Source: record.text}
			for i, field := range record.fields {
				if field.quoted || field.value != null {
					row.Values[i] = field.value
				}
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// keep notes how far the load has come, and writes it at most once a second.
func (f *loadFile) keep(line int) {
	f.latest = line
	if time.Since(f.keptAt) >= time.Second {
		f.keepNow()
	}
}

// keepNow does nothing if it cannot write: starting over is safe, only slower.
func (f *loadFile) keepNow() {
	if f.progress == "" || f.latest == f.kept {
		return
	}
	data, err := json.Marshal(keptProgress{f.table, f.size, f.latest})
	if err != nil {
		return
	}
	if writeFile(f.progress, data, 0o644) == nil {
		f.kept, f.keptAt = f.latest, time.Now()
	}
}

// writeFile writes a file that is there whole or not at all.
func writeFile(name string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// share is how much of the file was read, 0 to 1, or negative if that is not known.
func (f *loadFile) share() float64 {
	if f.size == 0 {
		return -1
	}
	return float64(f.counted.n.Load()) / float64(f.size)
}

// removeProgress removes the progress of a file that was loaded, or that starts over.
func (f *loadFile) removeProgress() error {
	if f.progress == "" {
		return nil
	}
	if err := os.Remove(f.progress); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("dsql: %w", err)
	}
	return nil
}

func (f *loadFile) close() {
	f.pipe.Close()
	if f.in != nil {
		f.in.Close()
	}
	if f.rejectFile != nil {
		f.rejectFile.Close()
	}
}
