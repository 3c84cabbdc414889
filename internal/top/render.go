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
func failure(err error, p painter, columns int) []string {
	return marked("! ", err.Error(), p, red, columns)
}

// marked returns the lines of a text in a colour. A sign is in front of the first.
func marked(sign, text string, p painter, colour string, columns int) (lines []string) {
	for _, line := range wrap(clean(text), columns-len(sign)) {
		lines = append(lines, p.paint(colour, sign+line))
		sign = "  "
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
			lines = append(lines, marked(sign, text, p, colour, columns)...)
			lines = append(lines, marked("  ", problem.Advice, p, "", columns)...)
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
func wrap(text string, columns int) []string {
	columns = max(columns, 4)
	words := strings.Fields(text)
	for i, word := range words {
		words[i] = screen.Clip(word, columns)
	}
	return flow(words, " ", columns)
}

// figures returns lines with "name value" pairs, each line with as many as fit.
func figures(all []page.Figure, columns int) []string {
	pairs := make([]string, len(all))
	for i, f := range all {
		pairs[i] = clean(f.Name) + " " + clean(f.Value)
	}
	return flow(pairs, " | ", columns)
}

// flow joins parts to lines, each line with as many as fit.
func flow(parts []string, separator string, columns int) (lines []string) {
	for _, part := range parts {
		last := len(lines) - 1
		if last >= 0 && screen.Width(lines[last]+separator+part) <= columns {
			lines[last] += separator + part
		} else {
			lines = append(lines, part)
		}
	}
	return lines
}

// clean makes text from a device safe for the terminal.
func clean(s string) string { return screen.Printable(s) }
