package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const rejectHeader = "line,reason,row\n"

// isRegular reports whether a file is there, and is no device or pipe, such as /dev/stderr.
func isRegular(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// checkRejects refuses a reject file that is one of the files to load, which would be lost.
func (l *loader) checkRejects(files []string) error {
	for _, file := range files {
		rejects, err := os.Stat(cmp.Or(l.rejects, file+".rejects"))
		if err != nil {
			continue
		}
		for _, input := range files {
			if info, err := os.Stat(input); err == nil && os.SameFile(info, rejects) {
				return usageError("load: %s is a file to load and the reject file of %s: name another with --rejects", input, file)
			}
		}
	}
	return nil
}

// checkIsRejects refuses to replace a file that no load has written.
func (f *loadFile) checkIsRejects() error {
	file, err := os.Open(f.rejectName)
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	defer file.Close()
	begin := make([]byte, len(rejectHeader))
	n, _ := io.ReadFull(file, begin)
	if !strings.HasPrefix(rejectHeader, string(begin[:n])) {
		return fmt.Errorf("dsql: %s is not a reject file of dsql load: name another with --rejects", f.rejectName)
	}
	return nil
}

// clearRejects drops the rejects of an earlier load.
func (f *loadFile) clearRejects() error {
	if !isRegular(f.rejectName) {
		return nil
	}
	if err := f.checkIsRejects(); err != nil {
		return err
	}
	if err := os.Truncate(f.rejectName, 0); err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	return nil
}

// keepRejects keeps the rejects of rows that are settled, as they are: the others come again.
func (f *loadFile) keepRejects() error {
	if !isRegular(f.rejectName) {
		return nil
	}
	if err := f.checkIsRejects(); err != nil {
		return err
	}
	name, err := filepath.EvalSymlinks(f.rejectName)
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	kept, rows := settledRejects(data, f.start)
	f.rejected = rows
	if err := writeFile(name, kept, info.Mode().Perm()); err != nil {
		return fmt.Errorf("dsql: rewriting %s: %w", f.rejectName, err)
	}
	return nil
}

// settledRejects returns the records of the lines up to last. What follows the last whole record
// was cut.
func settledRejects(data []byte, last int) (kept []byte, rows int64) {
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	kept = []byte(rejectHeader)
	r := newCSVReader(bytes.NewReader(data), ',')
	r.max = len(data)
	for {
		record, err := r.read()
		if err != nil {
			return kept, rows
		}
		line, err := strconv.Atoi(record.fields[0].value)
		if err != nil || line > last || len(record.fields) != 3 {
			continue
		}
		kept = append(append(kept, record.text...), '\n')
		rows++
	}
}

// reject writes a row to the reject file.
func (f *loadFile) reject(line int, reason, text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rejectFile == nil {
		if err := f.openRejects(); err != nil {
			return fmt.Errorf("dsql: %w", err)
		}
	}
	f.rejected++
	_ = f.rejectCSV.Write([]string{strconv.Itoa(line), reason, text}) // Error returns it, too
	f.rejectCSV.Flush()
	if err := f.rejectCSV.Error(); err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	if f.rejected > f.maxRejects {
		return fmt.Errorf("dsql: more than %d rows were rejected, the last one in line %d: %s: see %s, or raise --max-rejects", f.maxRejects, line, reason, f.rejectName)
	}
	return nil
}

// openRejects opens the file behind what keepRejects kept.
func (f *loadFile) openRejects() (err error) {
	if f.rejectFile, err = os.OpenFile(f.rejectName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666); err != nil {
		return err
	}
	f.rejectCSV = csv.NewWriter(f.rejectFile)
	info, err := f.rejectFile.Stat()
	if err == nil && info.Size() == 0 {
		_, err = f.rejectFile.WriteString(rejectHeader)
	}
	return err
}

func (f *loadFile) rejectedRows() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rejected
}
