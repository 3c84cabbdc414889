package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mqtt-nats-bridge/internal/page"
	"mqtt-nats-bridge/internal/screen"
)

const (
	wide      = 100 // minimum width at which detail columns are shown
	gap       = 2   // columns between two columns of a table
	minLong   = 12  // minimum width of a column of long text
	firstRows = 3   // rows that every table gets before any table gets more
)

// tables returns the lines of the tables that are not empty, at most limit lines, and the number of
// tables that do not fit. With limit 0, the number of lines is not limited.
func tables(all []page.Table, p painter, columns, limit int) (lines []string, omitted int) {
	var shown []page.Table
	for _, t := range all {
		if height(t) > 0 {
			shown = append(shown, t)
		}
	}
	for i, rows := range distribute(shown, limit) {
		if rows > 0 {
			lines = append(lines, table(shown[i], p, columns, rows)...)
		} else {
			omitted++
		}
	}
	return lines, omitted
}

// height returns the number of lines below a table's title.
func height(t page.Table) int {
	if t.Note != "" {
		return len(t.Rows) + 1
	}
	return len(t.Rows)
}

// distribute distributes the available lines among the tables. Each table gets its title and the first
// few rows, as far as the lines suffice. The remaining lines go to the tables in their order. The result
// contains the number of lines per table without the titles.
func distribute(all []page.Table, left int) []int {
	rows := make([]int, len(all))
	if left == 0 {
		for i, t := range all {
			rows[i] = height(t)
		}
		return rows
	}
	for i, t := range all {
		if left >= 2 {
			rows[i] = min(height(t), firstRows, left-1)
			left -= 1 + rows[i]
		}
	}
	for i, t := range all {
		if rows[i] > 0 {
			more := min(height(t)-rows[i], left)
			rows[i] += more
			left -= more
		}
	}
	return rows
}

// table returns the title and the given number of lines below it.
func table(t page.Table, p painter, columns, rows int) []string {
	var keep []int
	for i, c := range t.Columns {
		if !c.Command && (!c.Detail || columns >= wide) {
			keep = append(keep, i)
		}
	}
	width := widths(t, keep, columns)
	line := func(text func(i int) string, colour func(i int) string) string {
		var b strings.Builder
		for k, i := range keep {
			value := fit(text(i), width[k], k > 0 && t.Columns[i].Numeric)
			if k > 0 {
				b.WriteString(strings.Repeat(" ", gap))
			}
			b.WriteString(p.paint(colour(i), value))
		}
		return b.String()
	}
	lines := []string{p.paint(bold, strings.TrimRight(line(func(i int) string { return heading(t, i) }, func(int) string { return "" }), " "))}
	if t.Note != "" {
		lines = append(lines, p.paint(yellow, clean(t.Note)))
	}
	for _, row := range worstFirst(t, rows) {
		lines = append(lines, line(func(i int) string { return clean(cell(row, i).Text) }, func(i int) string { return levelColour(cell(row, i).Level) }))
	}
	if left := len(lines) - 1 - rows; left > 0 {
		lines = append(lines[:rows], p.paint(dim, fmt.Sprintf("… %d more", left+1)))
	}
	return lines
}

// worstFirst returns the rows. If not all fit, those with a problem come first.
func worstFirst(t page.Table, limit int) [][]page.Cell {
	if height(t) <= limit {
		return t.Rows
	}
	rows := slices.Clone(t.Rows)
	slices.SortStableFunc(rows, func(a, b []page.Cell) int { return cmp.Compare(severity(b), severity(a)) })
	return rows
}

func severity(row []page.Cell) (worst int) {
	for _, c := range row {
		worst = max(worst, slices.Index([]string{"", page.Warn, page.Bad}, c.Level))
	}
	return worst
}

// cell returns a cell of a row. A row of a program of another version may have fewer cells.
func cell(row []page.Cell, i int) page.Cell {
	if i < len(row) {
		return row[i]
	}
	return page.Cell{}
}

// widths returns the widths of the kept columns. If the space is not sufficient, it shrinks the widest
// columns of long text.
func widths(t page.Table, keep []int, columns int) []int {
	width := make([]int, len(keep))
	total := gap * (len(keep) - 1)
	for k, i := range keep {
		width[k] = screen.Width(heading(t, i))
		for _, row := range t.Rows {
			width[k] = max(width[k], min(screen.Width(clean(cell(row, i).Text)), max(columns, minLong)))
		}
		total += width[k]
	}
	for total > columns {
		widest := -1
		for k, i := range keep {
			if (k == 0 || t.Columns[i].Long) && width[k] > minLong && (widest < 0 || width[k] > width[widest]) {
				widest = k
			}
		}
		if widest < 0 {
			break
		}
		width[widest]--
		total--
	}
	return width
}

// heading returns a column's title. The first column has the table's title.
func heading(t page.Table, i int) string {
	if i == 0 {
		return strings.ToUpper(clean(t.Title))
	}
	return strings.Replace(clean(t.Columns[i].Title), " per second", "/s", 1)
}

// fit pads or clips a text to the width of its column.
func fit(text string, width int, right bool) string {
	text = screen.Clip(text, width)
	if right {
		return strings.Repeat(" ", max(width-screen.Width(text), 0)) + text
	}
	return screen.Pad(text, width)
}
