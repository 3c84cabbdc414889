package schema

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Sources are the sources of the configuration. From lowest to highest precedence they are: defaults,
// the file, MQTT_URL and NATS_URL, BRIDGE_… variables, flags.
type Sources struct {
	// File is the YAML file; empty: none.
	File string
	// Env is the environment in the format of os.Environ.
	Env []string
	// Flags are the values of the command line. If a path is given twice, the later value wins.
	Flags []Flag
	// Stdin returns the content of the file -, the same on each call. If Stdin is nil, - is an
	// ordinary file name.
	Stdin func() ([]byte, error)
}

// Flag is a value from the command line.
type Flag struct {
	// Name is the flag as typed, such as --mqtt-url, for errors. Empty: --Path.
	Name string
	// Path is the dotted path of the key, such as mqtt.url.
	Path string
	// Value has the syntax of the environment.
	Value string
}

// Loader contains the state of one Load.
type Loader struct {
	program Program
	p       *Provenance
	root    *Section
	leaves  map[string]*Leaf
	errs    Errors
	// invalid contains the paths whose value could not be read. They keep their default, to which
	// no rule is applied.
	invalid map[string]bool
}

// NewLoader returns a Loader that reads into the struct that configuration points to. p is part of
// that struct.
func NewLoader(program Program, configuration any, p *Provenance) *Loader {
	p.origins = map[string]origin{}
	root := Of(configuration)
	return &Loader{program: program, p: p, root: root, leaves: root.All(), invalid: map[string]bool{}}
}

// Read applies the values of all sources, from lowest to highest precedence, and opens the files that
// they name.
func (l *Loader) Read(s Sources) {
	l.root.setDefaults()
	if s.File != "" {
		l.file(s)
	}
	l.environment(s.Env)
	l.flags(s.Flags)
	l.files()
}

// Err returns the errors found so far as an *[Errors], or nil.
func (l *Loader) Err() error { return l.errs.Err() }

// Add appends the errors of values that have no error yet. A value with a syntax error would
// otherwise also get an error about its meaning.
func (l *Loader) Add(errs ...Error) {
	known := slices.Clone(l.errs.List)
	for _, f := range errs {
		if !slices.ContainsFunc(known, func(k Error) bool { return within(f.Path, k.Path) || within(k.Path, f.Path) }) {
			l.errs.Add(f)
		}
	}
}

// Valid reports whether all these values were read without an error. A rule must not be applied to
// other values.
func (l *Loader) Valid(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(p string) bool { return l.invalid[p] })
}

// Given reports whether the value at path, or any below it, was given.
func (l *Loader) Given(path string) bool { return l.p.Given(path) }

// ErrorAt adds an error of the value at path and reports it at the place where the value at place was
// given.
func (l *Loader) ErrorAt(place, path, message string) {
	l.errorAt(l.p.origin(place), path, message)
}

// Reject adds an error of the value at path, which is invalid from then on.
func (l *Loader) Reject(path, message string) { l.reject(path, l.p.origin(path), message) }

// Conflict adds an error of the first of paths that was given.
func (l *Loader) Conflict(message string, paths ...string) {
	for _, p := range paths {
		if l.Given(p) {
			l.ErrorAt(p, p, message)
			return
		}
	}
	l.errorAt(origin{}, paths[0], message)
}

// Derive records that the values at paths come from the value at place.
func (l *Loader) Derive(place string, paths ...string) {
	for _, p := range paths {
		l.p.origins[p] = l.p.origin(place)
	}
}

func (l *Loader) errorAt(o origin, path, message string) {
	l.errs.Add(o.errorAt(path, message))
}

// within reports whether path is outer or lies below it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && outer != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// set sets a leaf from the text of one source.
func (l *Loader) set(leaf *Leaf, text string, o origin) {
	if err := leaf.Set(text); err != nil {
		l.reject(leaf.Path, o, err.Error())
		return
	}
	l.accept(leaf.Path, o)
}

func (l *Loader) reject(path string, o origin, message string) {
	l.invalid[path] = true
	l.errorAt(o, path, message)
}

func (l *Loader) accept(path string, o origin) {
	delete(l.invalid, path)
	l.p.origins[path] = o
}

func (l *Loader) flags(flags []Flag) {
	for _, f := range flags {
		o := origin{layer: byFlag, Source: cmp.Or(f.Name, "--"+f.Path)}
		leaf, ok := l.leaves[f.Path]
		if !ok {
			message := "no such key"
			if near := nearest(f.Path, l.Paths()); near != "" {
				message += "; did you mean " + near + "?"
			}
			l.errorAt(o, f.Path, message)
			continue
		}
		l.text(leaf, f.Value, o)
	}
}

// text sets a leaf from a source that has only text. A list is YAML in brackets or separated by
// commas; an item that contains a comma needs the brackets.
func (l *Loader) text(leaf *Leaf, text string, o origin) {
	if leaf.IsList() && strings.HasPrefix(strings.TrimSpace(text), "[") {
		if n, ok := l.document([]byte(text), o, leaf.Path); ok {
			l.list(n, leaf, o)
		}
		return
	}
	l.forgetItems(leaf)
	l.set(leaf, text, o)
}

// Paths returns the paths of all keys, in order.
func (l *Loader) Paths() []string {
	return slices.Sorted(maps.Keys(l.leaves))
}
