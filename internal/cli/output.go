package cli

import (
	"encoding/json"
	"io"
)

// Output is the flag for the output format of a command.
type Output struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"Output format: text or json."`
}

// JSON reports whether the output format is JSON.
func (o Output) JSON() bool { return o.Output == "json" }

// PrintJSON writes a value as indented JSON.
func PrintJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}
