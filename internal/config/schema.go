package config

import (
	"reflect"
	"strings"
	"time"
)

// section is a struct of the configuration: its keys in the order of the
// fields, each either a leaf or a section again.
type section struct {
	path     string
	doc      string
	keys     []string
	leaves   map[string]*leaf
	sections map[string]*section
}

// leaf is one value that can be given.
type leaf struct {
	path  string
	value reflect.Value // addressable
	tag   reflect.StructTag
	def   string
}

// parser is a type that reads its own text form. The error is a whole sentence
// and quotes the text where that is safe.
type parser interface{ parse(text string) error }

// schemaOf describes the struct v, whose leaves then write into v.
func schemaOf(v reflect.Value, path string, defaults map[string]string) *section {
	s := &section{path: path, leaves: map[string]*leaf{}, sections: map[string]*section{}}
	s.add(v, defaults)
	return s
}

// add appends the keys of v's fields.
func (s *section) add(v reflect.Value, defaults map[string]string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		tag := field.Tag
		if field.Anonymous && field.IsExported() {
			s.add(v.Field(i), defaults)
			continue
		}
		key := tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		s.keys = append(s.keys, key)
		at := join(s.path, key)
		if isSection(v.Field(i)) {
			sub := schemaOf(v.Field(i), at, pairs(tag.Get("defaults"), ","))
			sub.doc = tag.Get("doc")
			s.sections[key] = sub
			continue
		}
		def, ok := defaults[key]
		if !ok {
			def = tag.Get("default")
		}
		s.leaves[key] = &leaf{path: at, value: v.Field(i), tag: tag, def: def}
	}
}

func isSection(v reflect.Value) bool {
	_, parses := v.Addr().Interface().(parser)
	return v.Kind() == reflect.Struct && !parses
}

// walk visits every leaf in order.
func (s *section) walk(visit func(*leaf)) {
	for _, key := range s.keys {
		if l, ok := s.leaves[key]; ok {
			visit(l)
		} else {
			s.sections[key].walk(visit)
		}
	}
}

// all is the leaves by path.
func (s *section) all() map[string]*leaf {
	m := map[string]*leaf{}
	s.walk(func(l *leaf) { m[l.path] = l })
	return m
}

// isText reports whether an empty text is a value of the leaf.
func (l *leaf) isText() bool {
	switch l.value.Interface().(type) {
	case string, Secret:
		return l.tag.Get("enum") == ""
	}
	return false
}

// isList reports whether the leaf is the list of topics.
func (l *leaf) isList() bool { return l.value.Type() == reflect.TypeFor[[]Topic]() }

// isJoined reports whether the leaf's value is texts separated by commas, which may be a list
// in the file.
func (l *leaf) isJoined() bool { return l.kind() == "URLs" }

// kind is the leaf's type in words.
func (l *leaf) kind() string {
	switch l.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case Bytes:
		return "size"
	case Rate:
		return "rate"
	case Partitions:
		return "partitions"
	case APIURL:
		return "HTTP URL"
	case Brokers, Servers, LeafServers:
		return "URLs"
	case DatabaseURL:
		return "database URL"
	case Secret:
		return "secret"
	case bool:
		return "true or false"
	case int:
		return "number"
	case []Topic:
		return "list"
	}
	if enum := l.tag.Get("enum"); enum != "" {
		return strings.ReplaceAll(enum, "|", ", ")
	}
	if l.tag.Get("file") != "" {
		return "file"
	}
	return "text"
}

// EnvName is the bridge's environment variable of a dotted path:
// BRIDGE_MQTT_KEEPALIVE for mqtt.keepalive.
func EnvName(path string) string { return bridgeProgram().variable(path) }

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
