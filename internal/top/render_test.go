package top

import (
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/page"
	"mqtt-nats-bridge/internal/screen"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// view is a program with two lanes; the second does not store.
func view() *page.View {
	lane := func(name string, state page.Cell) []page.Cell {
		return []page.Cell{page.Text(name), state, page.Text("12"), page.FillCell(0.5)}
	}
	return &page.View{
		Program: "mqtt-nats-bridge", Version: "1.2.3", Host: "site-7", At: noon, Ready: true,
		Figures: []page.Figure{{Name: "Stored per second", Value: "12"}, {Name: "Stored", Value: "1,234"}},
		Charts: []page.Chart{{Title: "Messages", Unit: "per second", Points: 360, Series: []page.Series{
			{Name: "stored", Values: page.Points{0, 5, 10, math.NaN()}, Now: "12", Highest: "12", Total: "99"},
		}}},
		Tables: []page.Table{
			{
				Title: "Lanes", Columns: []page.Column{{Title: "Lane"}, {Title: "State"}, {Title: "Stored per second", Numeric: true}, {Title: "Buffer", Numeric: true}},
				Rows: [][]page.Cell{lane("bridge-0", page.Text("connected")), lane("bridge-1", page.Cell{Text: "not storing", Level: page.Bad})},
			},
			{Title: "Streams", Columns: []page.Column{{Title: "Stream"}}, Empty: "None."},
		},
	}
}

func text(lines []string) string { return strings.Join(lines, "\n") }

func TestRender(t *testing.T) {
	t.Parallel()
	t.Run("ready", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, `mqtt-nats-bridge: ready | 1.2.3 on site-7 | 12:00:00 UTC
Stored per second 12 | Stored 1,234
LAST HOUR           1 h ago                           now  Now  Highest  Total
Messages/s: stored                                      █   12       12     99
LANES     State        Stored/s  Buffer
bridge-0  connected          12    50 %
bridge-1  not storing        12    50 %
`, text(render(state{view: view()}, 80, 0, false))+"\n")
	})
	t.Run("problems and warnings, with what to do", func(t *testing.T) {
		t.Parallel()
		v := view()
		v.Ready = false
		v.Problems = []endpoint.Problem{{Component: "nats", Problem: "not connected", Advice: "look whether the server runs", Since: noon.Add(-time.Minute)}}
		v.Warnings = []endpoint.Problem{{Component: "mqtt", Problem: strings.Repeat("long text ", 10)}}
		lines := render(state{view: v}, 40, 0, false)
		require.Equal(t, []string{
			"mqtt-nats-bridge: NOT READY | 1.2.3 o...",
			"! nats: not connected (for 60 s)",
			"  look whether the server runs",
			"* mqtt: long text long text long text",
			"  long text long text long text long",
			"  text long text long text long text",
		}, lines[:6])
		few := render(state{view: v}, 40, 8, false)
		require.Equal(t, "  … 2 more lines: see /readyz", few[4])
		require.Len(t, few, 8)
		require.Equal(t, "… 2 more tables | q: quit", few[7])
	})
	t.Run("tables that do not fit are counted", func(t *testing.T) {
		t.Parallel()
		for rows, want := range map[int]string{4: "… 2 more tables | q: quit", 5: "… 1 more table | q: quit", 6: "… 1 more table | q: quit", 7: "q: quit"} {
			lines := render(state{view: view()}, 80, rows, false)
			require.Len(t, lines, rows)
			require.Equal(t, want, lines[rows-1], rows)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		s := state{view: view(), at: noon, err: errors.New("no answer from http://127.0.0.1:9464: connection refused")}
		lines := render(s, 100, 24, false)
		require.Equal(t, "mqtt-nats-bridge: NO ANSWER since 12:00:00 UTC | 1.2.3 on site-7", lines[0])
		require.Equal(t, "! no answer from http://127.0.0.1:9464: connection refused", lines[1])
		require.Contains(t, text(lines), "bridge-1", "what it said last stays")
		require.Contains(t, text(render(state{err: s.err}, 80, 24, false)), "Retrying.")
		require.Contains(t, text(render(state{}, 80, 24, false)), "waiting for the first answer")
	})
	t.Run("rows with a problem come first where not all fit", func(t *testing.T) {
		t.Parallel()
		table := view().Tables[0]
		lines, left := tables([]page.Table{table}, false, 80, 2)
		require.Zero(t, left)
		require.Equal(t, "… 2 more", lines[1])
		table.Rows = append(table.Rows, table.Rows[0])
		lines, _ = tables([]page.Table{table}, false, 80, 3)
		require.Contains(t, lines[1], "bridge-1")
		require.Equal(t, "… 2 more", lines[2])
	})
	t.Run("colours", func(t *testing.T) {
		t.Parallel()
		require.Contains(t, text(render(state{view: view()}, 80, 24, true)), "\x1b[31mnot storing\x1b[0m")
		require.NotContains(t, text(render(state{view: view()}, 80, 24, false)), "\x1b")
	})
}

var colours = regexp.MustCompile("\x1b\\[[0-9;]+m")

// TestRenderBounds requires that no line wraps, no screen scrolls, and the only escape sequences
// are colours.
func TestRenderBounds(t *testing.T) {
	t.Parallel()
	name := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"\x1b[2J", "\x1b]0;title\x07", "\r\n\t", "\u009b31m", "温度計", "e\u0301\u0301\u0301\u0301", "\u202eright to left", "a\xffb", "🚀\ufe0f",
	}), rapid.StringMatching(`[a-z/]{0,300}`))
	cells := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) page.Cell {
		return page.Cell{Text: name.Draw(t, "cell"), Level: rapid.SampledFrom([]string{"", page.Warn, page.Bad, "other"}).Draw(t, "level")}
	}), 0, 7)
	tableOf := rapid.Custom(func(t *rapid.T) page.Table {
		column := rapid.Custom(func(t *rapid.T) page.Column {
			return page.Column{
				Title: name.Draw(t, "column"), Numeric: rapid.Bool().Draw(t, "numeric"), Long: rapid.Bool().Draw(t, "long"),
				Command: rapid.Bool().Draw(t, "command"), Detail: rapid.Bool().Draw(t, "detail"),
			}
		})
		return page.Table{
			Title: name.Draw(t, "title"), Note: name.Draw(t, "note"),
			Columns: rapid.SliceOfN(column, 0, 6).Draw(t, "columns"), Rows: rapid.SliceOfN(cells, 0, 12).Draw(t, "rows"),
		}
	})
	series := rapid.Custom(func(t *rapid.T) page.Series {
		return page.Series{Name: name.Draw(t, "series"), Now: name.Draw(t, "now"), Values: rapid.SliceOfN(rapid.Float64(), 0, 400).Draw(t, "values")}
	})
	rapid.Check(t, func(t *rapid.T) {
		problem := endpoint.Problem{Component: name.Draw(t, "component"), Problem: name.Draw(t, "problem"), Advice: name.Draw(t, "advice")}
		v := &page.View{
			Program: name.Draw(t, "program"), Host: name.Draw(t, "host"), Ready: rapid.Bool().Draw(t, "ready"),
			Problems: []endpoint.Problem{problem, problem}, Figures: []page.Figure{{Name: name.Draw(t, "figure"), Value: name.Draw(t, "value")}},
			Charts: []page.Chart{{Title: name.Draw(t, "chart"), Points: rapid.IntRange(-1, 360).Draw(t, "points"), Series: rapid.SliceOfN(series, 0, 9).Draw(t, "all series")}},
			Tables: rapid.SliceOfN(tableOf, 0, 5).Draw(t, "tables"),
		}
		s := state{view: v}
		if rapid.Bool().Draw(t, "lost") {
			s.err = errors.New(name.Draw(t, "error"))
		}
		columns, rows := rapid.IntRange(1, 200).Draw(t, "width"), rapid.IntRange(0, 60).Draw(t, "height")
		lines := render(s, columns, rows, rapid.Bool().Draw(t, "colour"))
		if rows > 0 {
			require.Len(t, lines, rows)
		}
		for _, line := range lines {
			require.LessOrEqual(t, screen.Width(line), columns, "%q", line)
			for _, r := range colours.ReplaceAllString(line, "") {
				require.True(t, unicode.IsPrint(r), "%q in %q", r, line)
			}
		}
	})
}

func TestSparkline(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values        page.Points
		points, width int
		want          string
	}{
		"a whole hour":                  {page.Points{0, 1, 2, 3, 4, 5, 6, 7}, 8, 8, "▁▂▃▄▅▆▇█"},
		"the newest is at the right":    {page.Points{7}, 8, 8, "       █"},
		"the highest of several points": {page.Points{0, 7, 0, 0}, 4, 2, "█▁"},
		"more columns than points":      {page.Points{7, 0}, 2, 4, "██▁▁"},
		"not known is a space":          {page.Points{math.NaN(), 7}, 2, 2, " █"},
		"nothing happened":              {page.Points{0, 0}, 2, 2, "▁▁"},
		"no points":                     {nil, 0, 3, "   "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, sparkline(test.values, test.points, test.width))
		})
	}
}
