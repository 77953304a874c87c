package main

import (
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// plot writes a server's results as an SVG file: commits per second and p99, over workers.
func (r results) plot(server, title, file string) error {
	commits, err := r.panel(server, "ok/s", "commits/s")
	if err != nil {
		return err
	}
	commits.Title.Text = title
	commits.Y.Min = 0
	slowest, err := r.panel(server, "p99-ms", "p99, ms (no point: some failed)")
	if err != nil {
		return err
	}
	slowest.Y.Scale = plot.LogScale{}
	slowest.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	slowest.Legend = plot.NewLegend() // the same as above

	c := vgsvg.New(20*vg.Centimeter, 20*vg.Centimeter)
	half := draw.New(c)
	middle := (half.Min.Y + half.Max.Y) / 2
	commits.Draw(draw.Crop(half, 0, 0, middle-half.Min.Y, 0))
	slowest.Draw(draw.Crop(half, 0, 0, 0, middle-half.Max.Y))
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

// panel returns a plot of one metric, a line for each way of retrying.
func (r results) panel(server, metric, label string) (*plot.Plot, error) {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "workers", label
	p.X.Scale = plot.LogScale{}
	var ticks plot.ConstantTicks
	for _, workers := range r.workers(server) {
		ticks = append(ticks, plot.Tick{Value: float64(workers), Label: strconv.Itoa(workers)})
	}
	p.X.Tick.Marker = ticks
	p.Legend.Top = true
	p.Legend.Left = true
	p.Add(plotter.NewGrid())
	for i, policy := range policies {
		var points plotter.XYs
		for _, workers := range r.workers(server) {
			if v, ok := r.median(key{server, workers, policy.name}, metric); ok && v < never {
				points = append(points, plotter.XY{X: float64(workers), Y: v})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color = plotutil.Color(i), plotutil.Color(i)
		line.Width = vg.Points(1.5)
		dots.Shape = plotutil.Shape(i)
		p.Add(line, dots)
		p.Legend.Add(policy.legend, line, dots)
	}
	return p, nil
}
