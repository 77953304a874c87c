// Command fleetsim simulates the new connections of a fleet of 500 processes with 20 connections each
// against DSQL's quota of 100 new connections per second after a burst of 1,000. The clock is simulated
// and the random numbers are seeded, so every run prints the same table. -svg writes a plot of the
// connections opened per second.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	svg := flag.String("svg", "", "file to write the plot to")
	flag.Parse()
	if err := run(os.Stdout, *svg); err != nil {
		fmt.Fprintln(os.Stderr, "fleetsim:", err)
		os.Exit(1)
	}
}

const (
	minute = 60 // the clock counts seconds
	length = 2*60*minute + 30*minute
)

var (
	// byDefault is the library's limiter, share the fleet's quota divided by its processes.
	byDefault = limiter{"100/s, burst 1000", 100, 1000}
	share     = limiter{"0.2/s, burst 2", 0.2, 2}
	none      = limiter{name: "none"}
)

// scenarios are the rows of the table. Their start is the event, or the loss of a Region where there is
// one.
var scenarios = []scenario{
	{name: "all start at once", life: 50 * minute, limiter: none},
	{name: "all start at once", life: 50 * minute, jitter: 5 * minute, limiter: none},
	{name: "all start at once", life: 50 * minute, jitter: 5 * minute, limiter: byDefault},
	{name: "all start at once", life: 50 * minute, jitter: 5 * minute, limiter: share},
	{name: "25 processes every 10 s", wave: 25, life: 50 * minute, limiter: byDefault},
	{name: "25 processes every 10 s", wave: 25, life: 50 * minute, jitter: 5 * minute, limiter: byDefault},
	{name: "Region lost, no failover", loss: 60 * minute, life: 50 * minute, jitter: 5 * minute, limiter: byDefault},
	{name: "Region lost, failover", loss: 60 * minute, failover: true, life: 50 * minute, jitter: 5 * minute, limiter: byDefault},
	{name: "Region lost, failover", loss: 60 * minute, failover: true, life: 50 * minute, jitter: 5 * minute, limiter: share},
}

func run(out io.Writer, svg string) error {
	fmt.Fprint(out, "| Event | Lifetime | Limit of each process | Connected after | Refused | Peak of renewals |\n"+
		"| --- | --- | --- | ---: | ---: | ---: |\n")
	var lines []line
	for i, s := range scenarios {
		r := s.simulate()
		lifetime := fmt.Sprintf("%d min", s.life/minute)
		if s.jitter > 0 {
			lifetime += fmt.Sprintf(" + %d", s.jitter/minute)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %d s | %d | %d/s |\n", s.name, lifetime, s.limiter.name, r.settled, r.refused, r.peakLater)
		if i < 2 {
			lines = append(lines, line{lifetime, r.opened})
		}
	}
	if svg == "" {
		return nil
	}
	f, err := os.Create(svg)
	if err != nil {
		return err
	}
	if err := plot(f, lines); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
