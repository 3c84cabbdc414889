package top

import (
	"math"
	"slices"
	"strings"

	"mqtt-nats-bridge/internal/page"
)

const (
	minSpark = 12 // columns of a sparkline; narrower ones are omitted
	maxSpark = 60
)

var bars = []rune("▁▂▃▄▅▆▇█")

// lastHour returns the charts as a table with one row per series. The sparklines fill the remaining
// width.
func lastHour(charts []page.Chart, columns int) page.Table {
	t := page.Table{Title: "Last hour", Columns: []page.Column{
		{}, {}, {Title: "Now", Numeric: true}, {Title: "Highest", Numeric: true}, {Title: "Total", Numeric: true},
	}}
	for _, c := range charts {
		name := c.Title + ": "
		if c.Unit == "per second" {
			name = c.Title + "/s: "
		}
		for _, s := range c.Series {
			t.Rows = append(t.Rows, []page.Cell{
				page.Text(name + s.Name), {}, page.Text(s.Now), page.Text(s.Highest), page.Text(s.Total),
			})
		}
	}
	width := columns - gap
	for i, w := range widths(t, []int{0, 1, 2, 3, 4}, columns) {
		if i != 1 {
			width -= w + gap
		}
	}
	if width = min(width, maxSpark); width < minSpark {
		return without(t, 1)
	}
	t.Columns[1].Title = "1 h ago" + strings.Repeat(" ", width-len("1 h agonow")) + "now"
	n := 0
	for _, c := range charts {
		for _, s := range c.Series {
			t.Rows[n][1] = page.Text(sparkline(s.Values, c.Points, width))
			n++
		}
	}
	return t
}

// without returns the table without a column.
func without(t page.Table, column int) page.Table {
	t.Columns = slices.Delete(t.Columns, column, column+1)
	for i := range t.Rows {
		t.Rows[i] = slices.Delete(t.Rows[i], column, column+1)
	}
	return t
}

// sparkline draws the hour in the given number of columns. A column shows the highest of its points, or
// a space if none is known.
func sparkline(values page.Points, points, width int) string {
	highest := 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			highest = max(highest, v)
		}
	}
	points = max(points, len(values), 1)
	before := points - len(values)
	out := make([]rune, width)
	for i := range out {
		from, to := i*points/width-before, max((i+1)*points/width, i*points/width+1)-before
		out[i] = ' '
		peak := math.NaN()
		for n := max(from, 0); n < min(to, len(values)); n++ {
			if v := values[n]; !math.IsNaN(v) && !(v <= peak) {
				peak = v
			}
		}
		if math.IsNaN(peak) {
			continue
		}
		level := 0
		if highest > 0 {
			level = int(max(peak, 0) / highest * float64(len(bars)-1))
		}
		out[i] = bars[level]
	}
	return string(out)
}
