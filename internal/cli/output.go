package cli

import (
	"encoding/json"
	"io"
)

// Output is the flag for the form of what a command prints.
type Output struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"text or json."`
}

// JSON reports whether JSON is wanted.
func (o Output) JSON() bool { return o.Output == "json" }

// PrintJSON writes a value for other programs.
func PrintJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}
