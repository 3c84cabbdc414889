package top

import (
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/page"
	"mqtt-nats-bridge/internal/screen"
)

// The colours, as SGR parameters.
const (
	red, redBold, green, yellow, bold, dim = "31", "1;31", "32", "33", "1", "2"
)

// painter adds colours to text if it is true.
type painter bool

func (p painter) paint(colour, s string) string {
	if !p || s == "" || colour == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// levelColour returns the colour of a cell's level.
func levelColour(level string) string {
	switch level {
	case page.Bad:
		return red
	case page.Warn:
		return yellow
	}
	return ""
}

// render returns the lines of a screen with the given size. With rows 0, the number of lines is not
// limited. The last line shows the number of tables that do not fit.
func render(s state, columns, rows int, colour bool) []string {
	p := painter(colour)
	lines, foot := title(s, p, columns), "q: quit"
	if s.view != nil {
		v := s.view
		lines = append(lines, problems(v, p, columns, rows/2)...)
		lines = append(lines, figures(v.Figures, columns)...)
		all := append([]page.Table{lastHour(v.Charts, columns)}, v.Tables...)
		limit := 0
		if rows > 0 {
			limit = max(rows-len(lines)-1, 1)
		}
		shown, omitted := tables(all, p, columns, limit)
		lines = append(lines, shown...)
		switch {
		case omitted == 1:
			foot = "… 1 more table | " + foot
		case omitted > 1:
			foot = fmt.Sprintf("… %d more tables | %s", omitted, foot)
		}
	}
	if rows > 0 {
		lines = fill(lines, rows, p.paint(dim, foot))
	}
	for i, line := range lines {
		lines[i] = screen.Clip(strings.TrimRight(line, " "), columns)
	}
	return lines
}

// fill pads or truncates lines to rows, including foot as the last line.
func fill(lines []string, rows int, foot string) []string {
	for len(lines) < rows-1 {
		lines = append(lines, "")
	}
	if len(lines) >= rows {
		lines = lines[:rows-1]
	}
	return append(lines, foot)
}

// title returns the lines with the program, its condition, and the error if it does not answer.
func title(s state, p painter, columns int) []string {
	if s.view == nil {
		if s.err == nil {
			return []string{"waiting for the first answer"}
		}
		return append(failure(s.err, p, columns), "Retrying.")
	}
	v := s.view
	condition := p.paint(green, "ready")
	switch {
	case s.err != nil:
		condition = p.paint(redBold, "NO ANSWER since "+clock(s.at))
	case !v.Ready:
		condition = p.paint(redBold, "NOT READY")
	case len(v.Warnings) > 0:
		condition = p.paint(yellow, "ready, with warnings")
	}
	first := fmt.Sprintf("%s: %s | %s on %s", p.paint(bold, clean(v.Program)), condition, clean(v.Version), clean(v.Host))
	if s.err == nil {
		return []string{first + " | " + clock(v.At)}
	}
	return append([]string{first}, failure(s.err, p, columns)...)
}

// failure returns the lines with the reason why there is no answer.
func failure(err error, p painter, columns int) (lines []string) {
	for i, line := range wrap(clean(err.Error()), columns-2) {
		lines = append(lines, p.paint(red, []string{"! ", "  "}[min(i, 1)]+line))
	}
	return lines
}

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly) + " UTC" }

// problems returns the lines with the program's problems and warnings, at most limit lines. With limit
// 0, the number of lines is not limited.
func problems(v *page.View, p painter, columns, limit int) (lines []string) {
	add := func(all []endpoint.Problem, sign, colour string) {
		for _, problem := range all {
			text := fmt.Sprintf("%s: %s", problem.Component, problem.Problem)
			if !problem.Since.IsZero() {
				text += " (for " + page.Span(max(v.At.Sub(problem.Since), 0)) + ")"
			}
			for i, line := range wrap(clean(text), columns-2) {
				lines = append(lines, p.paint(colour, []string{sign, "  "}[min(i, 1)]+line))
			}
			for _, line := range wrap(clean(problem.Advice), columns-2) {
				lines = append(lines, "  "+line)
			}
		}
	}
	add(v.Problems, "! ", red)
	add(v.Warnings, "* ", yellow)
	if limit > 0 && len(lines) > limit {
		omitted := len(lines) - limit + 1
		lines = append(lines[:limit-1], p.paint(dim, fmt.Sprintf("  … %d more lines: see /readyz", omitted)))
	}
	return lines
}

// wrap breaks a text at its spaces into lines of at most the given width. A longer word is clipped.
func wrap(text string, columns int) (lines []string) {
	columns = max(columns, 4)
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && screen.Width(line)+1+screen.Width(word) <= columns {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		line = screen.Clip(word, columns)
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// figures returns lines with "name value" pairs, each line with as many as fit.
func figures(all []page.Figure, columns int) (lines []string) {
	line := ""
	for _, f := range all {
		text := clean(f.Name) + " " + clean(f.Value)
		switch {
		case line == "":
			line = text
		case screen.Width(line)+3+screen.Width(text) > columns:
			lines = append(lines, line)
			line = text
		default:
			line += " | " + text
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// clean makes text from a device safe for the terminal.
func clean(s string) string { return screen.Printable(s) }
