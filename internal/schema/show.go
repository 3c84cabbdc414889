package schema

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Setting is one effective value and its source.
type Setting struct {
	Path  string `json:"key"`
	Value string `json:"value"` // in the syntax of the file, secrets redacted
	// Origin is file:line, the variable or the flag; empty: the default.
	Origin string `json:"origin,omitempty"`
	// Changed means that the value was given and is not the default.
	Changed bool `json:"changed"`
}

// Changed returns the settings that were given and differ from the default.
func Changed(all []Setting) []Setting {
	return slices.DeleteFunc(slices.Clone(all), func(s Setting) bool { return !s.Changed })
}

// Settings returns all values of a configuration in the order of the file. Each value of a list's
// items is a setting.
func Settings(configuration any, p *Provenance) []Setting {
	var all []Setting
	add := func(l *Leaf) {
		o := p.origin(l.Path)
		all = append(all, Setting{Path: l.Path, Value: l.Show(), Origin: o.String(), Changed: o.layer != byDefault && l.differs()})
	}
	Of(configuration).Walk(func(l *Leaf) {
		if !l.IsList() {
			add(l)
			return
		}
		for i := range l.Value.Len() {
			itemOf(l.Value.Index(i), l.Path, i).Walk(add)
		}
	})
	return all
}

// String returns a line of the file with the origin as a comment.
func (s Setting) String() string {
	value := s.Value
	if value == "" {
		value = `""`
	}
	if s.Origin == "" {
		return s.Path + ": " + value
	}
	return s.Path + ": " + value + "  # " + s.Origin
}

// Lines returns one line per setting.
func Lines(all []Setting) string {
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// differs reports whether the leaf's value differs from its default.
func (l *Leaf) differs() bool {
	v := reflect.New(l.Value.Type()).Elem()
	if l.Default != "" {
		_ = parseInto(v, l.Default) // defaults are valid
	}
	return !reflect.DeepEqual(v.Interface(), l.Value.Interface())
}
