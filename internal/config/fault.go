package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing wrong with the configuration: where, what, and what would
// be right.
type Fault struct {
	// Source is the file, environment variable or flag; empty for a default.
	Source string
	// Line in the file, from 1; 0: no line.
	Line int
	// Path is the dotted path of the key, such as topics[1].topic; empty: the
	// source as a whole.
	Path    string
	Message string

	layer layer
}

// Error is one line: file.yaml:12: mqtt.keepalive: what is wrong.
func (f Fault) Error() string {
	var b strings.Builder
	if f.Source != "" {
		b.WriteString(f.Source)
		if f.Line > 0 {
			b.WriteString(":" + strconv.Itoa(f.Line))
		}
		b.WriteString(": ")
	}
	// The variable's name already is the path.
	if f.Path != "" && !strings.HasSuffix(f.Source, "_"+variableStem(f.Path)) {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults is everything wrong with a configuration, in the order of the sources
// and their lines. It is the error Load returns.
type Faults struct{ List []Fault }

// Error is one line a fault.
func (f *Faults) Error() string {
	lines := make([]string, len(f.List))
	for i, fault := range f.List {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As each fault.
func (f *Faults) Unwrap() []error {
	all := make([]error, len(f.List))
	for i, fault := range f.List {
		all[i] = fault
	}
	return all
}

// Add appends faults found outside this package, see Config.Fault.
func (f *Faults) Add(more ...Fault) { f.List = append(f.List, more...) }

// Err is f in order, or nil where nothing is wrong.
func (f *Faults) Err() error {
	if len(f.List) == 0 {
		return nil
	}
	slices.SortStableFunc(f.List, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Line, b.Line))
	})
	return f
}

// layer is how far a source outranks another.
type layer int

const (
	byDefault layer = iota
	byFile
	byPlainEnv // NATS_URL, MQTT_URL
	byEnv      // BRIDGE_…
	byFlag
)

// origin is where a value was given.
type origin struct {
	layer layer
	name  string
	line  int
}

func (o origin) fault(path, message string) Fault {
	return Fault{Source: o.name, Line: o.line, Path: path, Message: message, layer: o.layer}
}

// Fault is a fault of the value at a dotted path such as topics[1].topic, at the
// place where it, or else what holds it, was given.
func (p *provenance) Fault(path, message string) Fault {
	return p.origin(path).fault(path, message)
}

// origin is where path was given, or the closest thing around it.
func (p *provenance) origin(path string) origin {
	for at := path; at != ""; {
		if o, ok := p.origins[at]; ok {
			return o
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	return origin{}
}

// given reports whether path itself, or anything below it, was given.
func (p *provenance) given(path string) bool {
	if _, ok := p.origins[path]; ok {
		return true
	}
	for known := range p.origins {
		if strings.HasPrefix(known, path+".") {
			return true
		}
	}
	return false
}

// quote shows a value in a fault, cut to a length that fits a line.
func quote(text string) string {
	const limit = 64
	if len(text) > limit {
		return strconv.Quote(strings.ToValidUTF8(text[:limit], "")) + "…"
	}
	return strconv.Quote(text)
}
