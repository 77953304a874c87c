package conformance

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Campaign runs all records against a cluster, under its quotas, and compares its answers.
type Campaign struct {
	Cluster   Cluster
	Local     Cluster // a local cluster
	Endpoint  string  // of Cluster
	Region    string
	Files     []File
	Dir       string    // where the answers are written
	Confirmed bool      // do not ask whether to begin
	In        io.Reader // the answer to that
	Out       io.Writer
}

// state is how far a campaign has come. It is kept in a file until the campaign has ended.
type state struct {
	Cluster string            `json:"cluster"` // a hash of the endpoint
	Date    string            `json:"date"`
	Schema  string            `json:"schema"` // what the schemas' names begin with
	Done    map[string]Result `json:"done"`   // by the hash of the file
}

// ErrNotConfirmed is returned if the user does not want to begin.
var ErrNotConfirmed = errors.New("not begun: nothing was sent to the cluster")

// Run runs the campaign, from where an earlier one was interrupted. It returns the report and the
// path of the answers.
func (c Campaign) Run(ctx context.Context) (report *Report, path string, err error) {
	version, err := c.Cluster.Identity(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("connecting to %s: %w", c.Endpoint, err)
	}
	unfinished := filepath.Join(c.Dir, "unfinished.state")
	progress, err := c.resume(unfinished)
	if err != nil {
		return nil, "", err
	}
	if err := c.confirm(version, progress); err != nil {
		return nil, "", err
	}
	if err := write(unfinished, progress); err != nil { // with the schemas' name: they are found after a crash
		return nil, "", err
	}
	if err := c.clean(ctx, progress.Schema); err != nil {
		return nil, "", err
	}
	if err := c.Cluster.CheckQuotas(ctx); err != nil {
		return nil, "", err
	}

	report = &Report{}
	answers := Answers{Region: c.Region, Version: version, Date: progress.Date}
	for i, file := range c.Files {
		key := hash(file)
		result, done := progress.Done[key]
		if !done {
			fmt.Fprintf(c.Out, "%s: file %d of %d, %s\n", time.Now().Format(time.TimeOnly), i+1, len(c.Files), file.Name)
			if result, err = c.Cluster.Run(ctx, file, progress.Schema); err != nil {
				if ctx.Err() != nil {
					return nil, "", fmt.Errorf("interrupted, and cleaned up: the same command continues with %s: %w", file.Name, ctx.Err())
				}
				return nil, "", fmt.Errorf("%s: %w", file.Name, err)
			}
			progress.Done[key] = result
			if err := write(unfinished, progress); err != nil {
				return nil, "", err
			}
		}
		local, err := c.Local.Run(ctx, file, Schema())
		if err != nil {
			return nil, "", fmt.Errorf("%s on the local cluster: %w", file.Name, err)
		}
		report.Add(file, result, local)
		answers.Files = append(answers.Files, file.answered(result, progress.Date, c.Region, version))
	}
	path = filepath.Join(c.Dir, fmt.Sprintf("%s-%s.json", progress.Date, c.Region))
	if err := write(path, answers); err != nil {
		return nil, "", err
	}
	return report, path, os.Remove(unfinished)
}

// resume reads how far an earlier campaign came, or begins one.
func (c Campaign) resume(path string) (state, error) {
	mine := hash(c.Endpoint)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{Cluster: mine, Date: time.Now().UTC().Format(time.DateOnly), Schema: Schema(), Done: map[string]Result{}}, nil
	}
	if err != nil {
		return state{}, err
	}
	var earlier state
	if err := json.Unmarshal(data, &earlier); err != nil || earlier.Done == nil {
		return state{}, fmt.Errorf("%s is damaged: remove it, and run with CLEANUP=1 to drop the schemas of that run", path)
	}
	if earlier.Cluster != mine {
		return state{}, fmt.Errorf("%s is of another cluster: finish that run, or remove the file", path)
	}
	fmt.Fprintf(c.Out, "going on with the run of %s: %d of %d files are done\n", earlier.Date, c.done(earlier), len(c.Files))
	return earlier, nil
}

func (c Campaign) done(s state) (n int) {
	for _, file := range c.Files {
		if _, ok := s.Done[hash(file)]; ok {
			n++
		}
	}
	return n
}

// clean drops what an earlier process of this run has left, and says what others have.
func (c Campaign) clean(ctx context.Context, schema string) error {
	found, err := c.Cluster.Leftovers(ctx)
	if err != nil {
		return err
	}
	for _, name := range found {
		if !strings.HasPrefix(name, schema) {
			fmt.Fprintf(c.Out, "another run has left the schema %s, or is using it: CLEANUP=1 drops it\n", name)
			continue
		}
		if err := c.Cluster.Drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// confirm says what the run does and costs, and asks whether to begin.
func (c Campaign) confirm(version string, progress state) error {
	e := c.estimate(progress)
	fmt.Fprintf(c.Out, `This runs %d statements against the cluster %s (PostgreSQL %s), one after the other, on at most 4 connections:
  - in schemas of its own, %s and up to %d whose names begin so, which are dropped afterwards; %d schema changes, one in a
    transaction, let transactions of other sessions fail with OC001
  - roles, grants to them and other schemas are left alone: such statements are skipped
  - it takes about %s, and costs at most about %.0f DPU: %.2f USD at 8 USD for a million
`, e.statements, c.Endpoint, version, progress.Schema, needSchemas-1, e.ddl, e.time, e.dpu, e.dpu*8/1e6)
	if c.Confirmed {
		return nil
	}
	fmt.Fprint(c.Out, "Type yes to begin (CONFIRM=yes does not ask): ")
	line, err := bufio.NewReader(c.In).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		fmt.Fprintln(c.Out)
		return ErrNotConfirmed
	}
	return nil
}

type estimate struct {
	statements, ddl int
	dpu             float64
	time            time.Duration
}

// Prices of a statement. The guide's factor for writing is 0.00004883 DPU a byte.
const (
	dpuOfStatement = 0.2                   // computing, and the least that a transaction reads and writes
	dpuOfLarge     = 10 << 20 * 0.00004883 // writing as much as a transaction may
)

var (
	schemaChange = regexp.MustCompile(`(?i)^!?(create|alter|drop|grant|revoke|comment)\b`)
	largeNumber  = regexp.MustCompile(`\d{4,}`)
)

func (c Campaign) estimate(progress state) (e estimate) {
	count := func(sql string) {
		e.statements++
		e.dpu += dpuOfStatement
		if schemaChange.MatchString(sql) {
			e.ddl++
		}
		for _, digits := range largeNumber.FindAllString(sql, -1) {
			if n, err := strconv.Atoi(digits); err == nil && n >= 10000 && !schemaChange.MatchString(sql) {
				e.dpu += dpuOfLarge
				break
			}
		}
	}
	for _, file := range c.Files {
		if _, done := progress.Done[hash(file)]; done {
			continue
		}
		for _, sql := range Table {
			count(sql)
		}
		for _, row := range file.Rows {
			for _, sql := range append(row.Setup[:len(row.Setup):len(row.Setup)], row.SQL) {
				count(sql)
			}
		}
		for _, s := range file.Scenarios {
			for _, sql := range s.Setup {
				count(sql)
			}
			for _, step := range s.Steps {
				count(step.SQL)
			}
		}
	}
	e.time = (time.Duration(e.statements)*50*time.Millisecond + time.Duration(e.ddl)*time.Second).Round(time.Minute) + time.Minute
	return e
}

// hash identifies a value by its content.
func hash(v any) string {
	data, _ := json.Marshal(v) // of strings only
	return fmt.Sprintf("%.8x", sha256.Sum256(data))
}

// write replaces a file at once, so that it is never half-written.
func write(path string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
