package top

import (
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/page"
	"mqtt-nats-bridge/internal/screen"
)

// The colours, as parameters of a terminal.
const (
	red, redBold, green, yellow, bold, dim = "31", "1;31", "32", "33", "1", "2"
)

// painter writes text with colour, or without.
type painter bool

func (p painter) paint(colour, s string) string {
	if !p || s == "" || colour == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// levelColour is that of a cell's level.
func levelColour(level string) string {
	switch level {
	case page.Bad:
		return red
	case page.Warn:
		return yellow
	}
	return ""
}

// render returns the lines of a screen so wide and high; with rows 0 as many as it takes.
// What does not fit is left out, and its number is said.
func render(s state, columns, rows int, colour bool) []string {
	p := painter(colour)
	lines, foot := title(s, p, columns), "q: quit"
	if s.view != nil {
		v := s.view
		lines = append(lines, problems(v, p, columns, rows/2)...)
		lines = append(lines, figures(v.Figures, columns)...)
		all := append([]page.Table{lastHour(v.Charts, columns)}, v.Tables...)
		room := 0
		if rows > 0 {
			room = max(rows-len(lines)-1, 1)
		}
		shown, left := tables(all, p, columns, room)
		lines = append(lines, shown...)
		switch {
		case left == 1:
			foot = "… 1 more table | " + foot
		case left > 1:
			foot = fmt.Sprintf("… %d more tables | %s", left, foot)
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

// fill pads or cuts lines to rows, of which the last is foot.
func fill(lines []string, rows int, foot string) []string {
	for len(lines) < rows-1 {
		lines = append(lines, "")
	}
	if len(lines) >= rows {
		lines = lines[:rows-1]
	}
	return append(lines, foot)
}

// title is the program and its condition, and why there is no answer.
func title(s state, p painter, columns int) []string {
	if s.view == nil {
		if s.err == nil {
			return []string{"waiting for the first answer"}
		}
		return append(failure(s.err, p, columns), "Trying again.")
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

// failure is why there is no answer.
func failure(err error, p painter, columns int) (lines []string) {
	for i, line := range wrap(clean(err.Error()), columns-2) {
		lines = append(lines, p.paint(red, []string{"! ", "  "}[min(i, 1)]+line))
	}
	return lines
}

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly) + " UTC" }

// problems are those of the program and its warnings, in at most so many lines; with 0 in
// as many as it takes.
func problems(v *page.View, p painter, columns, most int) (lines []string) {
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
	if most > 0 && len(lines) > most {
		left := len(lines) - most + 1
		lines = append(lines[:most-1], p.paint(dim, fmt.Sprintf("  … %d more lines: see /readyz", left)))
	}
	return lines
}

// wrap breaks a text at its spaces into lines so wide, and a longer word where it must.
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

// figures fills lines with "name value", as many as fit in each.
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

// clean keeps what a device chose from commanding the terminal.
func clean(s string) string { return screen.Printable(s) }
