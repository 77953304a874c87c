package conformance

import (
	"fmt"
	"io"
	"strings"
)

// Report is how the answers of a cluster differ from the records and from those of a local cluster.
type Report struct {
	Records []string // of what the records say
	Local   []string // of what the local cluster answers
	Skipped []string
	Right   int // answers that the records and the local cluster agree with
}

// Add compares the answers to the statements of a file.
func (r *Report) Add(file File, cluster, local Result) {
	for i, row := range file.Rows {
		r.add(row.Source, row.SQL, row, cluster.Rows[i], local.Rows[i])
	}
	for i, s := range file.Scenarios {
		for j, step := range s.Steps {
			if s.Undecided != "" {
				step.Undecided = s.Undecided
			}
			r.add(s.Source, fmt.Sprintf("%s, step %d, %s: %s", s.Name, j+1, step.Session, step.SQL), step.Row, cluster.Scenarios[i][j], local.Scenarios[i][j])
		}
	}
}

func (r *Report) add(source, what string, row Row, cluster, local Answer) {
	if cluster.Skipped != "" {
		r.Skipped = append(r.Skipped, fmt.Sprintf("%s: %s", short(what), cluster.Skipped))
		return
	}
	agreed := true
	if err := row.Compare(cluster); err != nil && row.Undecided == "" {
		agreed = false
		r.Records = append(r.Records, fmt.Sprintf("%s (%s): %v", short(what), source, err))
	}
	if !row.same(cluster, local) {
		agreed = false
		known := ""
		if row.Difference != "" {
			known = " (known: " + row.Difference + ")"
		}
		r.Local = append(r.Local, fmt.Sprintf("%s: the local cluster answers %v, this one %v%s", short(what), local, cluster, known))
	}
	if agreed {
		r.Right++
	}
}

func short(sql string) string {
	sql = strings.Join(strings.Fields(sql), " ")
	if len(sql) > 160 {
		return strings.ToValidUTF8(sql[:157], "") + "..."
	}
	return sql
}

// Print writes the report.
func (r *Report) Print(w io.Writer) {
	for _, part := range []struct {
		heading string
		lines   []string
	}{
		{"skipped", r.Skipped},
		{"the records or the documentation differ from this cluster", r.Records},
		{"the local cluster differs from this cluster", r.Local},
	} {
		fmt.Fprintf(w, "%s: %d\n", part.heading, len(part.lines))
		for _, line := range part.lines {
			fmt.Fprintln(w, "  "+line)
		}
	}
	fmt.Fprintf(w, "the same everywhere: %d\n", r.Right)
}

// Answers are what a cluster answers the statements of several files, in the format of the records:
// Load reads them.
type Answers struct {
	Region  string `json:"region"`
	Version string `json:"version"`
	Date    string `json:"date"`
	Files   []File `json:"files"`
}

// answered returns a file with the cluster's answers in place of the recorded ones. What was
// skipped is not in it, nor what ended the connection.
func (f File) answered(result Result, date, region, version string) File {
	out := File{Source: "a cluster in " + region + ", " + f.Name, Date: date, Class: "recorded", Region: region, Version: version}
	for i, row := range f.Rows {
		if answer := result.Rows[i]; answer.Skipped == "" && answer.Code != lost {
			out.Rows = append(out.Rows, row.answered(answer))
		}
	}
	for i, s := range f.Scenarios {
		steps := make([]Step, len(s.Steps))
		for j, step := range s.Steps {
			steps[j] = Step{Session: step.Session, Row: step.Row.answered(result.Scenarios[i][j])}
		}
		out.Scenarios = append(out.Scenarios, Scenario{Name: s.Name, Setup: s.Setup, Steps: steps})
	}
	return out
}
