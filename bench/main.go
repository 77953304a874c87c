// Command bench turns the output of the hot row benchmarks into the tables and plots of
// docs/performance.md: medians over all runs of commits per second and p99 over workers, for each way
// of retrying.
//
//	go test -run '^$' -bench HotRow -benchtime 1x -count 10 ./occ > hotrow.txt
//	cd bench && go run . -out . ../hotrow.txt
//
// make bench does all of it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

const caption = "commits per second and p99 by workers"

func main() {
	out := flag.String("out", ".", "directory for hotrow.md and hotrow-*.svg")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(out string, files []string) error {
	if len(files) == 0 {
		return fmt.Errorf("use: bench -out DIRECTORY FILE… with the output of go test -bench HotRow")
	}
	results := make(results)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = results.read(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(results) == 0 {
		return fmt.Errorf("%v: no results of BenchmarkHotRow", files)
	}
	tables, err := os.Create(filepath.Join(out, "hotrow.md"))
	if err != nil {
		return err
	}
	defer tables.Close()
	for _, server := range servers {
		if len(results.workers(server.name)) == 0 {
			continue
		}
		table, image := results.table(server.name), "hotrow-"+server.name+".svg"
		if _, err := fmt.Fprintf(tables, "### %s\n\n%s\n![%s](%s)\n\n%s\n", server.title, table, caption, image, results.reached(server.name)); err != nil {
			return err
		}
		if err := plotTable(server.title, table, filepath.Join(out, image)); err != nil {
			return err
		}
	}
	return nil
}
