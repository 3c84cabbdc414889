package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"mqtt-nats-bridge/internal/endpoint"
)

// View is the state of a program at one moment, formatted for display. It is only for the page and the
// command top, and may change at any time. Scripts should read /status.
type View struct {
	Program  string             `json:"program"`
	Version  string             `json:"version"`
	Host     string             `json:"host"`
	At       time.Time          `json:"at"`
	Started  time.Time          `json:"started"`
	Ready    bool               `json:"ready"`
	Problems []endpoint.Problem `json:"problems"`
	Warnings []endpoint.Problem `json:"warnings"`
	Figures  []Figure           `json:"figures"`
	Charts   []Chart            `json:"charts"`
	Tables   []Table            `json:"tables"`
}

// Figure is one number with its name.
type Figure struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Chart shows series with the same unit over the last hour.
type Chart struct {
	Title string `json:"title"`
	Unit  string `json:"unit"`
	// StepSeconds is the time between two points. The last point is the current one.
	StepSeconds float64  `json:"step_seconds"`
	Points      int      `json:"points"` // the number of points per hour; a series may have fewer
	Series      []Series `json:"series"`
}

// Series is one line of a chart. Total is empty for a gauge.
type Series struct {
	Name    string `json:"name"`
	Values  Points `json:"values"`
	Now     string `json:"now"`
	Highest string `json:"highest"`
	Total   string `json:"total,omitempty"`
}

// Points are the values of a series. NaN means unknown.
type Points []float64

// MarshalJSON encodes values with three digits, and NaN as null.
func (p Points) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range p {
		if i > 0 {
			b = append(b, ',')
		}
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			b = append(b, "null"...)
		case v >= 1000:
			b = strconv.AppendFloat(b, math.Round(v), 'f', -1, 64)
		default:
			b = strconv.AppendFloat(b, v, 'g', 3, 64)
		}
	}
	return append(b, ']'), nil
}

// UnmarshalJSON decodes null as NaN.
func (p *Points) UnmarshalJSON(data []byte) error {
	var values []*float64
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&values); err != nil {
		return fmt.Errorf("read points: %w", err)
	}
	*p = make(Points, len(values))
	for i, v := range values {
		(*p)[i] = math.NaN()
		if v != nil {
			(*p)[i] = *v
		}
	}
	return nil
}

// Table is a table of the page. Empty is the text shown if it has no rows.
type Table struct {
	Title   string   `json:"title"`
	Columns []Column `json:"columns"`
	Rows    [][]Cell `json:"rows"`
	Empty   string   `json:"empty"`
	// Note concerns the whole table, such as the reason why its data could not be read.
	Note string `json:"note,omitempty"`
}

// Column describes how the cells of a column are shown.
type Column struct {
	Title   string `json:"title"`
	Numeric bool   `json:"numeric,omitempty"`
	// Long marks text of any length, which is wrapped.
	Long bool `json:"long,omitempty"`
	// Command marks a command line that can be copied.
	Command bool `json:"command,omitempty"`
	// Detail marks a column that narrow terminals omit.
	Detail bool `json:"detail,omitempty"`
}

// Cell is one value. Level is empty, "warn" or "bad".
type Cell struct {
	Text string `json:"text"`
	// Fill is a fill level from 0 to 1; nil if the cell is not a fill level.
	Fill  *float64 `json:"fill,omitempty"`
	Level string   `json:"level,omitempty"`
}

// The levels of a cell.
const (
	Warn = "warn"
	Bad  = "bad"
)

// Text returns a cell with text.
func Text(s string) Cell { return Cell{Text: s} }

// FillCell returns a cell with a fill level from 0 to 1. Its level is a warning from 80 %.
func FillCell(fill float64) Cell {
	fill = min(max(fill, 0), 1)
	c := Cell{Text: fmt.Sprintf("%.0f %%", 100*fill), Fill: &fill}
	switch {
	case fill >= 0.95:
		c.Level = Bad
	case fill >= 0.8:
		c.Level = Warn
	}
	return c
}
