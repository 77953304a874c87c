package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// servers are those of BenchmarkHotRow, with their headings in docs/performance.md.
var servers = []struct{ name, title string }{
	{"script", "A scripted server under first-committer-wins, whose COMMIT takes 1 ms"},
	{"distant", "Real PostgreSQL behind dsqltest, 1 ms away"},
	{"dsqltest", "Real PostgreSQL behind dsqltest, no latency"},
}

// policies are the ways of retrying of BenchmarkHotRow, as the tables and the plots call them.
var policies = []struct{ name, row, legend string }{
	{"RunTx", "`RunTx`", "RunTx"},
	{"RunTx+SerialKey", "`RunTx`, `WithSerialKey`", "RunTx, WithSerialKey"},
	{"100ms", "3 retries from 100 ms", "3 retries from 100 ms (AWS's connector)"},
	{"none", "no backoff", "50 retries without backoff (crdbpgx)"},
}

// never is above the time of any transaction, in milliseconds: a failed one never finishes.
const never = 1e12

// key is one benchmark's name, without its number of processors.
type key struct {
	server  string
	workers int
	policy  string
}

// results holds the values of each metric, one for each run.
type results map[key]map[string][]float64

var name = regexp.MustCompile(`^BenchmarkHotRow/([^/]+)/(\d+)/(\S+?)(-\d+)?$`)

// read adds the benchmarks in the output of go test.
func (r results) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || !name.MatchString(fields[0]) {
			continue
		}
		m := name.FindStringSubmatch(fields[0])
		workers, _ := strconv.Atoi(m[2])
		k := key{m[1], workers, m[3]}
		if r[k] == nil {
			r[k] = map[string][]float64{}
		}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return fmt.Errorf("%s: the value %q of %s must be a number", fields[0], fields[i], fields[i+1])
			}
			r[k][fields[i+1]] = append(r[k][fields[i+1]], value)
		}
	}
	return lines.Err()
}

// median returns the median of a metric, and whether there is one.
func (r results) median(k key, metric string) (float64, bool) {
	values := slices.Sorted(slices.Values(r[k][metric]))
	if len(values) == 0 {
		return 0, false
	}
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2, true
}

// workers returns the numbers of workers of a server's benchmarks, sorted.
func (r results) workers(server string) []int {
	var all []int
	for k := range r {
		if k.server == server && !slices.Contains(all, k.workers) {
			all = append(all, k.workers)
		}
	}
	slices.Sort(all)
	return all
}

// header is the head of each table in docs/performance.md.
const header = `| Workers | Retrying by | Commits/s | Failed | Attempts per commit | p50 ms | p95 ms | p99 ms | Fair share ms | p99 / fair |
| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`

// table returns a server's results as docs/performance.md shows them.
func (r results) table(server string) string {
	var b strings.Builder
	b.WriteString(header)
	for _, workers := range r.workers(server) {
		for _, policy := range policies {
			k := key{server, workers, policy.name}
			if r[k] == nil {
				continue
			}
			value := func(metric string) float64 { v, _ := r.median(k, metric); return v }
			failed := "0"
			if share := value("failed-%"); share > 0 {
				failed = fmt.Sprintf("%.1f %%", share)
			}
			ratio := "never"
			if value("p99-ms") < never {
				ratio = fmt.Sprintf("%.1f", value("p99/fair"))
			}
			fmt.Fprintf(&b, "| %d | %s | %.0f | %s | %.2f | %s | %s | %s | %s | %s |\n", workers, policy.row, value("ok/s"), failed,
				value("attempts/ok"), ms(value("p50-ms")), ms(value("p95-ms")), ms(value("p99-ms")), ms(value("fair-ms")), ratio)
		}
	}
	return b.String()
}

// reached returns RunTx's commits per second relative to those of the best other policy without a
// key, for each number of workers.
func (r results) reached(server string) string {
	var ratios []string
	for _, workers := range r.workers(server) {
		ours, ok := r.median(key{server, workers, "RunTx"}, "ok/s")
		best := 0.0
		for _, policy := range []string{"100ms", "none"} {
			if v, _ := r.median(key{server, workers, policy}, "ok/s"); v > best {
				best = v
			}
		}
		if ok && best > 0 {
			ratios = append(ratios, fmt.Sprintf("%.2f", ours/best))
		}
	}
	if len(ratios) == 0 {
		return ""
	}
	return fmt.Sprintf("RunTx reached %s of the best other policy's commits per second.\n", strings.Join(ratios, ", "))
}

// ms formats milliseconds with two digits at least.
func ms(v float64) string {
	switch {
	case v >= never:
		return "never"
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
