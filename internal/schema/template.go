package schema

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Template writes a configuration file in which each key is commented out, with its meaning and its
// default. keys selects the keys; nil: all.
func Template(w io.Writer, program Program, configuration any, keys []string) error {
	t := template{program: program, keys: keys}
	t.section(Of(configuration), "")
	_, err := io.WriteString(w, t.text.String())
	return err
}

type template struct {
	program Program
	keys    []string
	text    strings.Builder
}

// includes reports whether a key of the section, or below it, is selected.
func (t *template) includes(s *Section) bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(s.All())), t.has)
}

func (t *template) has(l *Leaf) bool { return t.keys == nil || slices.Contains(t.keys, l.Path) }

func (t *template) section(s *Section, indent string) {
	first := true
	for _, key := range s.Keys {
		l, sub := s.Leaves[key], s.Sections[key]
		if sub != nil && !t.includes(sub) || l != nil && !t.has(l) {
			continue
		}
		if !first || indent == "" {
			t.text.WriteByte('\n')
		}
		first = false
		if sub != nil {
			t.comment(indent, sub.Doc)
			fmt.Fprintf(&t.text, "%s%s:\n", indent, key)
			t.section(sub, indent+"  ")
			continue
		}
		t.leaf(l, key, indent)
	}
}

func (t *template) leaf(l *Leaf, key, indent string) {
	t.comment(indent, l.Tag.Get("doc"))
	t.comment(indent, fmt.Sprintf("%s; %s", l.Range(), t.program.Variable(l.Path)))
	switch {
	case l.IsList():
		fmt.Fprintf(&t.text, "%s#%s:\n", indent, key)
		for item := range strings.SplitSeq(l.Default, ",") {
			fmt.Fprintf(&t.text, "%s#  - %s\n", indent, item)
		}
	case l.Default == "":
		fmt.Fprintf(&t.text, "%s#%s: \"\"\n", indent, key)
	default:
		fmt.Fprintf(&t.text, "%s#%s: %s\n", indent, key, l.Default)
	}
}

// comment wraps a text at 80 columns.
func (t *template) comment(indent, text string) {
	const width = 80
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len([]rune(line))+1+len([]rune(word)) > width && line != indent+"#" {
			t.text.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	if line != indent+"#" {
		t.text.WriteString(line + "\n")
	}
}
