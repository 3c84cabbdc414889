package schema

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// node is a schema within a JSON Schema.
type node map[string]any

// JSON returns the JSON Schema of the configuration file (draft 7, which editors support). It covers
// keys, types, enums, bounds of numbers and the meaning of each key. The program checks rules between
// keys.
func JSON(title string, configuration any) ([]byte, error) {
	root := Of(configuration).schema()
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = title
	text, err := json.MarshalIndent(root, "", "  ")
	return append(text, '\n'), err
}

// schema returns an object of exactly the section's keys. It also admits null, because all keys of
// a section may be commented out.
func (s *Section) schema() node {
	properties := node{}
	for _, key := range s.Keys {
		if l, ok := s.Leaves[key]; ok {
			properties[key] = l.schema()
		} else {
			properties[key] = s.Sections[key].schema()
		}
	}
	n := node{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if s.Doc != "" {
		n["description"] = s.Doc
	}
	return n
}

// schema returns the schema of the values that the file may contain. A text may also be written as a
// number or true, because the loader takes it literally.
func (l *Leaf) schema() node {
	n := node{"type": []string{"string", "number", "boolean"}}
	switch l.Value.Addr().Interface().(type) {
	case *bool:
		n = node{"enum": []any{true, false, "true", "false"}}
	case *int:
		n = l.number()
	case *time.Duration:
		n = node{"type": []string{"string", "integer"}, "minimum": 0, "maximum": 0, "pattern": `^([0-9]+d)?[+-]?([0-9.]+(ns|us|µs|μs|ms|s|m|h))*$|^[+-]?0$`}
	case *Bytes:
		n = node{"type": []string{"string", "integer"}, "pattern": `^[0-9]+ *([KMGT]iB|B)?$`, "minimum": 0}
	}
	switch enum := l.Tag.Get("enum"); {
	case l.IsList():
		n = l.list()
	case enum != "":
		n = node{"enum": strings.Split(enum, "|")}
	case l.isJoined():
		n = node{"type": []string{"string", "array"}, "items": node{"type": "string"}}
	}
	n["description"] = l.description()
	if l.Default != "" && !l.IsList() {
		n["default"] = l.Default
	}
	return n
}

func (l *Leaf) number() node {
	n := node{"type": []string{"integer", "string"}, "pattern": `^[+-]?[0-9]+$`}
	for tag, keyword := range map[string]string{"min": "minimum", "max": "maximum"} {
		if text := l.Tag.Get(tag); text != "" {
			n[keyword] = l.Bound(text).Int()
		}
	}
	return n
}

func (l *Leaf) list() node {
	items := l.Item()
	object := items.schema()
	main := strings.TrimPrefix(items.main().Path, items.Path+".")
	object["type"], object["required"] = "object", []string{main}
	return node{"type": "array", "minItems": 1, "items": node{"anyOf": []node{{"type": "string"}, object}}}
}

// description returns the key's doc and the part of its kind that a JSON type cannot express.
func (l *Leaf) description() string {
	text := l.Tag.Get("doc")
	if kind := l.Range(); !slices.Contains([]string{"text", "file", "secret", "true or false", "list"}, kind) && l.Tag.Get("enum") == "" {
		text += " (" + kind + ")"
	}
	return text
}
