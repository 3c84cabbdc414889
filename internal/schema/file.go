package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v4"
)

// MaxFile bounds the files that are read, in bytes.
const MaxFile = 1 << 20

// file reads the YAML file into the configuration.
func (l *Loader) file(name string) {
	o := origin{layer: byFile, name: name}
	data, err := readFile(name, MaxFile)
	if err != nil {
		l.errorAt(o, "", "the configuration file "+err.Error())
		return
	}
	l.yaml(data, o)
}

func (l *Loader) yaml(data []byte, o origin) {
	if n, ok := l.document(data, o, ""); ok {
		l.section(n, l.root, o)
	}
}

// document parses one YAML document; false where there is none to read, be it
// because of an error or because it is empty.
func (l *Loader) document(data []byte, o origin, path string) (*yaml.Node, bool) {
	// Duplicate keys are found by section, which names both lines.
	dec, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithUniqueKeys(false))
	if err != nil {
		l.errorAt(o, path, "set up the YAML reader: "+err.Error())
		return nil, false
	}
	var doc, more yaml.Node
	switch err := dec.Load(&doc); {
	case errors.Is(err, io.EOF):
		return nil, false
	case err != nil:
		l.syntax(err, o, path)
		return nil, false
	}
	if err := dec.Load(&more); err == nil {
		l.errorAt(o.at(&more), path, "contains a second document; one --- at most, at the top")
		return nil, false
	} else if !errors.Is(err, io.EOF) {
		l.syntax(err, o, path)
		return nil, false
	}
	if len(doc.Content) == 0 {
		return nil, false
	}
	return doc.Content[0], true
}

// syntax reports what the YAML parser could not read. Nothing after it is read,
// so it stays the file's only error.
func (l *Loader) syntax(err error, o origin, path string) {
	message := "is not YAML"
	var le *yaml.LoadError
	if errors.As(err, &le) {
		if o.layer == byFile {
			o.line = le.Mark.Line
		}
		switch {
		// The parser's message would show the anchor: a password that begins
		// with an asterisk.
		case strings.HasPrefix(le.Message, "unknown anchor"):
			message += ": an unquoted value begins with *; put it in quotes"
		case strings.Contains(le.ContextMsg, "flow"):
			message += ": " + le.Message + "; within [ ] and { } put a text that contains braces or commas in quotes"
		default:
			message += ": " + le.Message
		}
	}
	l.reject(path, o, message)
}

// at is the origin of a node: in a file it has a line.
func (o origin) at(n *yaml.Node) origin {
	if o.layer == byFile {
		o.line = n.Line
	}
	return o
}

// section reads a mapping.
func (l *Loader) section(n *yaml.Node, s *Section, o origin) {
	value := resolve(n)
	if value.Tag == "!!null" {
		return // all its keys are commented out
	}
	if value.Kind != yaml.MappingNode {
		l.errorAt(o.at(n), s.Path, "is "+kindOf(value)+", not a section; write keys below it, each as key: value, with a space after the colon")
		return
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(value.Content); i += 2 {
		k, v := value.Content[i], value.Content[i+1]
		key := resolve(k).Value
		at := o.at(k)
		if first, twice := lines[key]; twice {
			l.errorAt(at, join(s.Path, showKey(key)), fmt.Sprintf("is given twice, first on line %d; keep one", first))
			continue
		}
		lines[key] = k.Line
		switch leaf, sub := s.Leaves[key], s.Sections[key]; {
		case sub != nil:
			l.section(v, sub, o)
		case leaf != nil && leaf.IsList():
			l.list(v, leaf, o)
		case leaf != nil:
			l.scalar(v, leaf, o)
		case key == "<<":
			l.errorAt(at, join(s.Path, "<<"), "merge keys are not supported; write the keys out")
		case showKey(key) != key:
			l.errorAt(at, join(s.Path, showKey(key)), "unknown key; is a space missing after the colon?")
		default:
			l.errorAt(at, join(s.Path, key), l.unknownKey(s, key))
		}
	}
}

// scalar reads a single value, as the text in the file: no YAML
// type comes in between, so 0123 and no stay what they are.
func (l *Loader) scalar(n *yaml.Node, leaf *Leaf, o origin) {
	value := resolve(n)
	at := o.at(n)
	if value.Kind == yaml.SequenceNode && leaf.isJoined() {
		l.joined(value, leaf, at)
		return
	}
	switch {
	case value.Kind != yaml.ScalarNode:
		l.reject(leaf.Path, at, "is "+kindOf(value)+"; write a single value ("+leaf.Kind()+")")
	case value.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(value.Tag, "!!"):
		l.reject(leaf.Path, at, "has a tag ("+Quote(value.Tag)+"); tags are not supported, write the plain value")
	case value.Tag == "!!null":
		l.reject(leaf.Path, at, `has no value; write one, "" for an empty text, or delete the line`)
	default:
		l.set(leaf, value.Value, at)
	}
}

// joined reads a list of single values as the text that has commas between them.
func (l *Loader) joined(list *yaml.Node, leaf *Leaf, at origin) {
	var texts []string
	for _, item := range list.Content {
		value := resolve(item)
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" || strings.Contains(value.Value, ",") {
			l.reject(leaf.Path, at, "has an item that is not a single value without commas")
			return
		}
		texts = append(texts, value.Value)
	}
	l.set(leaf, strings.Join(texts, ","), at)
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// kindOf names what a node is, never its value: it may be a secret.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Tag == "!!null":
		return "empty"
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// showKey is a key as errors show it: in password:hunter2, which YAML reads as
// one key, only what comes before the colon.
func showKey(key string) string {
	if i := strings.IndexAny(key, ":= \t"); i >= 0 {
		key = key[:i]
	}
	if q := Quote(key); q != `"`+key+`"` {
		return q
	}
	return key
}

// readFile reads a regular file of at most limit bytes. The error is what to
// say about the file, without its name.
func readFile(name string, limit int64) ([]byte, error) {
	// Before opening: a pipe without a writer would block.
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("does not exist")
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", reason(err))
	case info.IsDir():
		return nil, errors.New("is a directory; name a file")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", reason(err))
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("is larger than %s", Bytes(limit))
	}
	return data, nil
}

// reason is the cause inside a path error, whose name the error already shows.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
