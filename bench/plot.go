package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The columns of a table that are plotted.
const (
	workersColumn = 0
	policyColumn  = 1
	commitsColumn = 2
	p99Column     = 7
)

// plotTable writes a table as an SVG file: commits per second and p99 over workers. It shows the
// rounded values of the table, so the plot in docs/performance.md is of the table beside it.
func plotTable(title, table, file string) error {
	rows := cells(table)
	commits, legend, err := panel(rows, commitsColumn, "commits/s")
	if err != nil {
		return err
	}
	commits.Y.Min = 0
	slowest, _, err := panel(rows, p99Column, "p99, ms")
	if err != nil {
		return err
	}
	slowest.Y.Scale = plot.LogScale{}
	slowest.Y.Tick.Marker = oneTwoFive{}
	logarithmic(&slowest.Y)
	slowest.Y.Min, slowest.Y.Max = floorOneTwoFive(slowest.Y.Min), ceilOneTwoFive(slowest.Y.Max)

	c := vgsvg.New(20*vg.Centimeter, 22*vg.Centimeter)
	const margin, heading, gap = vg.Centimeter / 2, 3.3 * vg.Centimeter, vg.Centimeter
	page := draw.Crop(draw.New(c), margin, -margin, margin, -margin)
	panels := draw.Crop(page, 0, 0, 0, -heading)
	half := (panels.Max.Y - panels.Min.Y - gap) / 2
	heads := commits.Title.TextStyle
	heads.YAlign = draw.YTop
	page.FillText(heads, vg.Point{X: page.Center().X, Y: page.Max.Y}, title)
	notes := heads
	notes.XAlign = draw.XRight
	page.FillText(notes, vg.Point{X: page.Max.X, Y: page.Max.Y - vg.Centimeter}, "no p99 where more than 1 % failed")
	legend.Draw(draw.Crop(page, 0, 0, 0, -vg.Centimeter))
	commits.Draw(draw.Crop(panels, 0, 0, half+gap, 0))
	slowest.Draw(draw.Crop(panels, 0, 0, 0, -half-gap))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// logarithmic gives an axis with one value, or with none because all transactions failed, a range
// above 0.
func logarithmic(axis *plot.Axis) {
	if axis.Min > axis.Max {
		axis.Min, axis.Max = 1, 1
	}
	if axis.Min == axis.Max {
		axis.Max = 10 * axis.Min
	}
}

// oneTwoFive marks 1, 2 and 5 times the powers of ten on a logarithmic axis.
type oneTwoFive struct{}

func (oneTwoFive) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for v := ceilOneTwoFive(low); v <= high; v = ceilOneTwoFive(1.1 * v) {
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return ticks
}

// ceilOneTwoFive returns the least of 1, 2 and 5 times a power of ten that is not below v.
func ceilOneTwoFive(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5} {
		if step*power >= v {
			return step * power
		}
	}
	return 10 * power
}

// floorOneTwoFive returns the greatest one that is not above v.
func floorOneTwoFive(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{5, 2} {
		if step*power <= v {
			return step * power
		}
	}
	return power
}

// cells returns the cells of a table's rows, without its header.
func cells(table string) [][]string {
	var rows [][]string
	for line := range strings.Lines(strings.TrimPrefix(table, header)) {
		row := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		rows = append(rows, row)
	}
	return rows
}

// panel returns a plot of one column, a line for each way of retrying, and its legend.
func panel(rows [][]string, column int, label string) (*plot.Plot, plot.Legend, error) {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "workers", label
	p.X.Scale = plot.LogScale{}
	legend := plot.NewLegend() // not the plot's own, which would cover the lines
	legend.Top, legend.Left = true, true
	p.Add(plotter.NewGrid())
	points := map[string]plotter.XYs{}
	var ticks plot.ConstantTicks
	for _, row := range rows {
		if len(row) <= p99Column {
			return nil, legend, fmt.Errorf("the row %q must have the columns of the hot row tables", row)
		}
		workers, err := strconv.ParseFloat(row[workersColumn], 64)
		if err != nil {
			return nil, legend, err
		}
		if tick := (plot.Tick{Value: workers, Label: row[workersColumn]}); !slices.Contains(ticks, tick) {
			ticks = append(ticks, tick)
			p.X.Min, p.X.Max = min(p.X.Min, workers), max(p.X.Max, workers)
		}
		if row[column] == "never" {
			continue
		}
		value, err := strconv.ParseFloat(row[column], 64)
		if err != nil {
			return nil, legend, err
		}
		points[row[policyColumn]] = append(points[row[policyColumn]], plotter.XY{X: workers, Y: value})
	}
	p.X.Tick.Marker = ticks
	logarithmic(&p.X)
	for i, policy := range policies {
		if len(points[policy.row]) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points[policy.row])
		if err != nil {
			return nil, legend, err
		}
		line.Color, dots.Color = plotutil.Color(i), plotutil.Color(i)
		line.Width = vg.Points(1.5)
		dots.Shape = plotutil.Shape(i)
		p.Add(line, dots)
		legend.Add(policy.legend, line, dots)
	}
	return p, legend, nil
}
