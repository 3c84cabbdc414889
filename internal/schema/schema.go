package schema

import (
	"reflect"
	"strings"
	"time"
)

// Section is a struct of the configuration. Its keys have the order of the fields; each is either a
// leaf or another section.
type Section struct {
	Path     string
	Doc      string
	Keys     []string
	Leaves   map[string]*Leaf
	Sections map[string]*Section
}

// Leaf is one value of the configuration.
type Leaf struct {
	Path    string
	Value   reflect.Value // addressable
	Tag     reflect.StructTag
	Default string
}

// parser is a type that parses its own values. The error is a whole sentence and quotes the text if
// that is safe.
type parser interface{ Parse(text string) error }

// Of returns the section of the struct that configuration points to. Its leaves write into the struct.
func Of(configuration any) *Section {
	return schemaOf(reflect.ValueOf(configuration).Elem(), "", nil)
}

// schemaOf returns the section of the struct v. Its leaves write into v.
func schemaOf(v reflect.Value, path string, defaults map[string]string) *Section {
	s := &Section{Path: path, Leaves: map[string]*Leaf{}, Sections: map[string]*Section{}}
	s.add(v, defaults)
	return s
}

// add appends the keys of v's fields.
func (s *Section) add(v reflect.Value, defaults map[string]string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		tag := field.Tag
		key := tag.Get("yaml")
		if field.Anonymous && key != "-" {
			s.add(v.Field(i), defaults)
			continue
		}
		if key == "" || key == "-" {
			continue
		}
		s.Keys = append(s.Keys, key)
		at := join(s.Path, key)
		if isSection(v.Field(i)) {
			sub := schemaOf(v.Field(i), at, pairs(tag.Get("defaults"), ","))
			sub.Doc = tag.Get("doc")
			s.Sections[key] = sub
			continue
		}
		def, ok := defaults[key]
		if !ok {
			def = tag.Get("default")
		}
		s.Leaves[key] = &Leaf{Path: at, Value: v.Field(i), Tag: tag, Default: def}
	}
}

func isSection(v reflect.Value) bool {
	_, parses := v.Addr().Interface().(parser)
	return v.Kind() == reflect.Struct && !parses
}

// Walk visits every leaf in order.
func (s *Section) Walk(visit func(*Leaf)) {
	for _, key := range s.Keys {
		if l, ok := s.Leaves[key]; ok {
			visit(l)
		} else {
			s.Sections[key].Walk(visit)
		}
	}
}

// All returns the leaves by path.
func (s *Section) All() map[string]*Leaf {
	m := map[string]*Leaf{}
	s.Walk(func(l *Leaf) { m[l.Path] = l })
	return m
}

// isText reports whether empty text is a valid value of the leaf.
func (l *Leaf) isText() bool {
	switch l.Value.Interface().(type) {
	case string, Secret:
		return l.Tag.Get("enum") == ""
	}
	return false
}

// isJoined reports whether the leaf's values are separated by commas and may also be a list in the
// file.
func (l *Leaf) isJoined() bool {
	_, joined := l.Value.Addr().Interface().(interface{ Joined() })
	return joined
}

// Kind returns the name of the leaf's type: the one that a custom type defines, or a word for a basic
// type.
func (l *Leaf) Kind() string {
	switch v := l.Value.Addr().Interface().(type) {
	case interface{ Kind() string }:
		return v.Kind()
	case *time.Duration:
		return "duration"
	case *bool:
		return "true or false"
	case *int:
		return "number"
	}
	switch enum := l.Tag.Get("enum"); {
	case l.IsList():
		return "list"
	case enum != "":
		return strings.ReplaceAll(enum, "|", ", ")
	case l.Tag.Get("file") != "":
		return "file"
	}
	return "text"
}

// Range is the leaf's kind with its bounds.
func (l *Leaf) Range() string {
	switch least, most := l.Tag.Get("min"), l.Tag.Get("max"); {
	case least != "" && most != "":
		return l.Kind() + ", " + least + " to " + most
	case least != "":
		return l.Kind() + ", from " + least
	case most != "":
		return l.Kind() + ", up to " + most
	}
	return l.Kind()
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// pairs reads a=b pairs from a struct tag.
func pairs(text, separator string) map[string]string {
	m := map[string]string{}
	for pair := range strings.SplitSeq(text, separator) {
		if k, v, ok := strings.Cut(pair, "="); ok {
			m[k] = v
		}
	}
	return m
}
