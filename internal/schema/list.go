package schema

import (
	"maps"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// completer is an item of a list that sets keys that were not given.
type completer interface{ Complete() }

// IsList reports whether the leaf is a list of structs. An item that is a single value sets the key
// tagged item.
func (l *Leaf) IsList() bool {
	t := l.Value.Type()
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// Item returns the section that describes the keys of a list's items.
func (l *Leaf) Item() *Section {
	return schemaOf(reflect.New(l.Value.Type().Elem()).Elem(), l.Path+"[]", nil)
}

// itemOf returns the section of v, the item at i of the list at path.
func itemOf(v reflect.Value, path string, i int) *Section {
	return schemaOf(v, path+"["+strconv.Itoa(i)+"]", nil)
}

// main returns the key that an item sets if it is a single value.
func (s *Section) main() *Leaf {
	for _, key := range s.Keys {
		if l := s.Leaves[key]; l != nil && l.Tag.Get("item") != "" {
			return l
		}
	}
	panic("no key of " + s.Path + " is tagged item")
}

// setDefaults sets the default of each leaf that has one. A test reads all defaults.
func (s *Section) setDefaults() {
	s.Walk(func(l *Leaf) {
		if l.Default == "" {
			return
		}
		if err := l.Set(l.Default); err != nil {
			panic("default of " + l.Path + ": " + err.Error())
		}
	})
}

func complete(item reflect.Value) {
	if c, ok := item.Addr().Interface().(completer); ok {
		c.Complete()
	}
}

// parseList reads the items from text, separated by commas.
func (l *Leaf) parseList(v reflect.Value, text string) error {
	parts := strings.Split(text, ",")
	items := reflect.MakeSlice(v.Type(), len(parts), len(parts))
	for i, part := range parts {
		s := itemOf(items.Index(i), l.Path, i)
		s.setDefaults()
		if err := parseInto(s.main().Value, strings.TrimSpace(part)); err != nil {
			return err
		}
		complete(items.Index(i))
	}
	v.Set(items)
	return nil
}

// list reads a list of single values or sections.
func (l *Loader) list(n *yaml.Node, leaf *Leaf, o origin) {
	value := resolve(n)
	at := o.at(n)
	if value.Kind != yaml.SequenceNode || len(value.Content) == 0 {
		kind := kindOf(value)
		if value.Kind == yaml.SequenceNode {
			kind = "empty"
		}
		l.reject(leaf.Path, at, "is "+kind+"; write a list of "+leaf.Path+", each on a line like - "+leaf.Tag.Get("example"))
		return
	}
	items := reflect.MakeSlice(leaf.Value.Type(), len(value.Content), len(value.Content))
	l.forgetItems(leaf)
	for i, node := range value.Content {
		s := itemOf(items.Index(i), leaf.Path, i)
		s.setDefaults()
		l.p.origins[s.Path] = o.at(node)
		l.item(node, s, o)
		complete(items.Index(i))
	}
	leaf.Value.Set(items)
	l.accept(leaf.Path, at)
}

func (l *Loader) item(n *yaml.Node, s *Section, o origin) {
	main := s.main()
	if resolve(n).Kind != yaml.MappingNode {
		l.scalar(n, main, o)
		return
	}
	l.section(n, s, o)
	if main.Value.IsZero() && l.Valid(main.Path) {
		key := strings.TrimPrefix(main.Path, s.Path+".")
		l.reject(s.Path, o.at(n), "has no "+key+"; write "+key+": with "+main.Tag.Get("item"))
	}
}

// forgetItems removes the origins of list items that a source of lower precedence gave. A list replaces
// an earlier one as a whole.
func (l *Loader) forgetItems(leaf *Leaf) {
	maps.DeleteFunc(l.p.origins, func(path string, _ origin) bool { return strings.HasPrefix(path, leaf.Path+"[") })
}
