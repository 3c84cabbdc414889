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

// file reads the YAML file, or the standard input, into the configuration.
func (l *Loader) file(s Sources) {
	o, failed := origin{layer: byFile, Source: s.File}, "the configuration file "
	read := func() ([]byte, error) { return readFile(s.File) }
	if s.File == "-" && s.Stdin != nil {
		o.Source, failed, read = "stdin", "the configuration cannot be read: ", s.Stdin
	}
	data, err := read()
	if err != nil {
		l.errorAt(o, "", failed+err.Error())
		return
	}
	if n, ok := l.document(data, o, ""); ok {
		l.section(n, l.root, o)
	}
}

// document parses one YAML document. It returns false if the document is empty or invalid.
func (l *Loader) document(data []byte, o origin, path string) (*yaml.Node, bool) {
	// section detects duplicate keys, so that its error can name both lines.
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
		l.errorAt(o.at(&more), path, "contains a second document; write at most one ---, at the top")
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

// syntax reports a syntax error. The parser stops there, so it is the file's only error.
func (l *Loader) syntax(err error, o origin, path string) {
	message := "is not YAML"
	var le *yaml.LoadError
	if errors.As(err, &le) {
		if o.layer == byFile {
			o.Line = le.Mark.Line
		}
		switch {
		// The parser's message would reveal a password that begins with an asterisk,
		// because it quotes the anchor.
		case strings.HasPrefix(le.Message, "unknown anchor"):
			message += ": an unquoted value begins with *; quote it"
		case strings.Contains(le.ContextMsg, "flow"):
			message += ": " + le.Message + "; within [ ] and { }, quote text that contains braces or commas"
		default:
			message += ": " + le.Message
		}
	}
	l.reject(path, o, message)
}

// at returns the origin of a node. In a file, it includes the line.
func (o origin) at(n *yaml.Node) origin {
	if o.layer == byFile {
		o.Line = n.Line
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
		l.errorAt(o.at(n), s.Path, "is "+kindOf(value)+", not a section; write keys below it as key: value, with a space after the colon")
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

// scalar reads a single value as the text in the file. YAML's types are not applied, so 0123 and no
// are not converted.
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

// joined reads a list of single values as one text with commas between them.
func (l *Loader) joined(list *yaml.Node, leaf *Leaf, at origin) {
	var texts []string
	for _, item := range list.Content {
		value := resolve(item)
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" || strings.Contains(value.Value, ",") {
			l.reject(leaf.Path, at, "has an item that is not a single value, or that contains a comma; write one value per item")
			return
		}
		texts = append(texts, value.Value)
	}
	l.set(leaf, strings.Join(texts, ","), at)
}

// resolve returns the node that an alias refers to.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// kindOf describes a node without its value, which may be a secret.
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

// showKey returns a key for an error message. YAML reads password:hunter2 as one key; showKey returns
// only the part before the colon.
func showKey(key string) string {
	if i := strings.IndexAny(key, ":= \t"); i >= 0 {
		key = key[:i]
	}
	if q := Quote(key); q != `"`+key+`"` {
		return q
	}
	return key
}

// readFile reads a regular file of at most [MaxFile] bytes. The error text follows the file's name.
func readFile(name string) ([]byte, error) {
	// Checked before opening, because a pipe without a writer would block.
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
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", reason(err))
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("is larger than %s", Bytes(MaxFile))
	}
	return data, nil
}

// reason returns the cause of a path error, without the name that the message already contains.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
