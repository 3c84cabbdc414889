package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is one error of the configuration. Its message contains the correction.
type Error struct {
	origin
	// Path is the dotted path of the key, such as topics[1].topic. It is empty if the error
	// concerns the whole source.
	Path    string
	Message string
}

// Error returns one line, such as file.yaml:12: mqtt.keepalive: "x" is not a duration.
func (e Error) Error() string {
	text := e.Message
	// The variable's name already contains the path.
	if e.Path != "" && !strings.HasSuffix(e.Source, "_"+variableStem(e.Path)) {
		text = e.Path + ": " + text
	}
	if e.Source != "" {
		text = e.origin.String() + ": " + text
	}
	return text
}

// Errors contains all errors of a configuration, in the order of the sources and their lines. Load
// returns it.
type Errors struct{ List []Error }

// Error returns one line per error.
func (e *Errors) Error() string {
	return strings.Join(lines(e.List), "\n")
}

func lines(errs []Error) []string {
	all := make([]string, len(errs))
	for i, e := range errs {
		all[i] = e.Error()
	}
	return all
}

// Add appends errors found outside this package; see Config.ErrorAt.
func (e *Errors) Add(more ...Error) { e.List = append(e.List, more...) }

// Err returns e, sorted, or nil if it contains no errors.
func (e *Errors) Err() error {
	if len(e.List) == 0 {
		return nil
	}
	slices.SortStableFunc(e.List, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Line, b.Line))
	})
	return e
}

// layer is the precedence of a source: the higher one wins.
type layer int

const (
	byDefault layer = iota
	byFile
	byPlainEnv // NATS_URL, MQTT_URL
	byEnv      // BRIDGE_…
	byFlag
)

// Provenance records the source of each value. A configuration embeds it with the tag yaml:"-".
type Provenance struct {
	// origins maps each path that was given to its source. Defaults have no entry.
	origins  map[string]origin
	warnings []Error
}

// Warn adds a warning about a value that is valid but has a disadvantage.
func (p *Provenance) Warn(path, message string) {
	p.warnings = append(p.warnings, p.ErrorAt(path, message))
}

// Warnings returns the warnings, one line each, for the log at start.
func (p *Provenance) Warnings() []string {
	return lines(p.warnings)
}

// origin is the place where a value was given.
type origin struct {
	layer layer
	// Source is the file, environment variable or flag; empty for a default.
	Source string
	// Line is the line in the file, from 1; 0: no line.
	Line int
}

// String returns the file and line, the variable or the flag; empty for a default.
func (o origin) String() string {
	if o.Line > 0 {
		return fmt.Sprintf("%s:%d", o.Source, o.Line)
	}
	return o.Source
}

func (o origin) errorAt(path, message string) Error {
	return Error{origin: o, Path: path, Message: message}
}

// ErrorAt returns an error of the value at a dotted path such as topics[1].topic. Its place is where
// the value, or otherwise the closest enclosing section, was given.
func (p *Provenance) ErrorAt(path, message string) Error {
	return p.origin(path).errorAt(path, message)
}

// origin returns the place where path was given, or otherwise its closest enclosing section.
func (p *Provenance) origin(path string) origin {
	for at := path; at != ""; {
		if o, ok := p.origins[at]; ok {
			return o
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	return origin{}
}

// Given reports whether path itself, or anything below it, was given.
func (p *Provenance) Given(path string) bool {
	for known := range p.origins {
		if within(known, path) {
			return true
		}
	}
	return false
}

// Quote quotes a value for an error and truncates it to fit on a line.
func Quote(text string) string {
	const limit = 64
	if len(text) > limit {
		return strconv.Quote(strings.ToValidUTF8(text[:limit], "")) + "…"
	}
	return strconv.Quote(text)
}
