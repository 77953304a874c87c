package main

import (
	"fmt"
	"html/template"
	"io"
	"strings"
)

// line is one of the plot: connections opened in each second.
type line struct {
	name   string
	opened []int
}

const (
	width, height = 720.0, 300.0
	perPoint      = 30 // seconds, which a point averages
	top           = 140.0
)

var colors = []string{"#c0392b", "#2471a3"}

var page = template.Must(template.New("svg").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="-50 -30 800 370" font-family="sans-serif" font-size="12">
<rect x="-50" y="-30" width="800" height="370" fill="white"/>
<text x="0" y="-12" font-size="14">New connections per second of 500 processes with 20 each, all started at once</text>
{{range .Y}}<line x1="0" x2="720" y1="{{.At}}" y2="{{.At}}" stroke="{{if eq .Label "100"}}#333" stroke-dasharray="6 3{{else}}#ddd{{end}}"/><text x="-6" y="{{.At}}" dy="4" text-anchor="end">{{.Label}}</text>
{{end}}{{range .X}}<line y1="0" y2="300" x1="{{.At}}" x2="{{.At}}" stroke="#ddd"/><text x="{{.At}}" y="318" text-anchor="middle">{{.Label}}</text>
{{end}}{{range .Lines}}<polyline fill="none" stroke="{{.Color}}" stroke-width="1.5" points="{{.Points}}"/>
<text x="{{.X}}" y="14" fill="{{.Color}}">lifetime {{.Name}}</text>
{{end}}<text x="360" y="336" text-anchor="middle">minutes; means of 30 s; dashed: DSQL's rate after the burst</text>
</svg>
`))

type tick struct {
	At    float64
	Label string
}

// plot writes an SVG file.
func plot(w io.Writer, lines []line) error {
	var data struct {
		X, Y  []tick
		Lines []struct {
			Name, Color, Points string
			X                   int
		}
	}
	for m := 0; m <= length/minute; m += 30 {
		data.X = append(data.X, tick{width * float64(m*minute) / length, fmt.Sprint(m)})
	}
	for y := 0; y <= int(top); y += 20 {
		data.Y = append(data.Y, tick{height - height*float64(y)/top, fmt.Sprint(y)})
	}
	for i, l := range lines {
		var points strings.Builder
		for at := 0; at+perPoint <= len(l.opened); at += perPoint {
			sum := 0
			for _, n := range l.opened[at : at+perPoint] {
				sum += n
			}
			fmt.Fprintf(&points, "%.1f,%.1f ", width*(float64(at)+perPoint/2)/length, height-height*float64(sum)/perPoint/top)
		}
		data.Lines = append(data.Lines, struct {
			Name, Color, Points string
			X                   int
		}{l.name, colors[i], strings.TrimSpace(points.String()), 60 + 180*i})
	}
	return page.Execute(w, data)
}
