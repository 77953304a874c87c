package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// display shows the progress of a load: on a terminal in one line that is written over, elsewhere
// in a line every ten seconds.
type display struct {
	out      io.Writer
	terminal bool
	began    time.Time
	last     time.Time
	shown    bool // a line stands unfinished on the terminal
}

func newDisplay(out io.Writer) *display {
	now := time.Now()
	return &display{out: out, terminal: isTerminal(out), began: now, last: now}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (d *display) elapsed() time.Duration { return time.Since(d.began) }

// show reports the rows so far, and the share of the file if it is not negative.
func (d *display) show(inserted, present, rejected int64, share float64) {
	interval := 10 * time.Second
	if d.terminal {
		interval = 200 * time.Millisecond
	}
	if time.Since(d.last) < interval {
		return
	}
	d.last = time.Now()
	line := fmt.Sprintf("%d rows inserted, %d present, %d rejected, %.0f rows/s", inserted, present, rejected,
		float64(inserted+present)/d.elapsed().Seconds())
	if share >= 0 {
		line = fmt.Sprintf("%3.0f%%  %s", 100*share, line)
	}
	if d.terminal {
		fmt.Fprintf(d.out, "\r%-78s", line)
		d.shown = true
		return
	}
	fmt.Fprintln(d.out, line)
}

func (d *display) end() {
	if d.shown {
		fmt.Fprintln(d.out)
		d.shown = false
	}
}
