package config

import (
	"reflect"
	"slices"
	"strings"
)

// Sources are where the configuration comes from, weakest first: defaults, the
// file, MQTT_URL and NATS_URL, BRIDGE_… variables, flags.
type Sources struct {
	// File is the YAML file; empty: none.
	File string
	// Env is the environment in the form of os.Environ.
	Env []string
	// Flags are the values of the command line; of two for one path the later
	// wins.
	Flags []Flag
	// Check adds errors that only those can see who give values their
	// meaning; see Config.ErrorAt. It gets what could be read, which may be
	// wrong already: what it says about such a value is dropped. [Load] alone
	// calls it.
	Check func(*Config) []Error
}

// Flag is a value from the command line.
type Flag struct {
	// Name is the flag as typed, for errors: --mqtt-url. Empty: --Path.
	Name string
	// Path is the dotted path of the key: mqtt.url.
	Path string
	// Value is in the syntax of the environment.
	Value string
}

// Load reads all sources and checks the whole. The error is always a *[Errors]
// that holds everything wrong, not only the first; without errors the Config is
// complete. The files that the configuration names are opened here; none is
// passed over because it is missing.
func Load(s Sources) (*Config, error) {
	c := &Config{}
	l := newLoader(c)
	l.read(s)
	l.certificates("mqtt.tls", c.MQTT.TLS.TLS)
	l.certificates("nats.tls", c.NATS.TLS.TLS)
	l.rules()
	if s.Check != nil {
		l.further(s.Check(c))
	}
	if err := l.errs.Err(); err != nil {
		return nil, err
	}
	l.warn()
	return c, nil
}

// loader is one Load in progress.
type loader struct {
	program program
	p       *provenance
	c       *Config // nil: another program's
	root    *section
	leaves  map[string]*leaf
	errs    Errors
	// bad are the paths whose value could not be read: no rule is applied to
	// the default that stands in for them.
	bad map[string]bool
}

func newLoader(c *Config) *loader {
	l := loaderOf(bridgeProgram(), c, &c.provenance)
	l.c = c
	return l
}

// loaderOf reads into the struct that configuration points to, which p is part of.
func loaderOf(program program, configuration any, p *provenance) *loader {
	p.origins = map[string]origin{}
	root := schemaOf(reflect.ValueOf(configuration).Elem(), "", nil)
	return &loader{program: program, p: p, root: root, leaves: root.all(), bad: map[string]bool{}}
}

// read takes the values of all sources, weakest first, and opens the files that
// they name.
func (l *loader) read(s Sources) {
	l.defaults()
	if s.File != "" {
		l.file(s.File)
	}
	l.environment(s.Env)
	l.flags(s.Flags)
	l.files()
}

func (l *loader) errorAt(o origin, path, message string) {
	l.errs.Add(o.errorAt(path, message))
}

// further adds errors of values that have none yet: a pattern that is no text
// must not also be called a pattern that means nothing.
func (l *loader) further(errs []Error) {
	known := slices.Clone(l.errs.List)
	for _, f := range errs {
		if !slices.ContainsFunc(known, func(k Error) bool { return within(f.Path, k.Path) || within(k.Path, f.Path) }) {
			l.errs.Add(f)
		}
	}
}

// within reports whether path is that of outer, or of something in it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && outer != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func (l *loader) defaults() {
	l.root.walk(func(leaf *leaf) {
		if leaf.def == "" {
			return
		}
		if err := leaf.set(leaf.def); err != nil {
			l.errorAt(origin{}, leaf.path, "default "+err.Error())
		}
	})
	if l.c != nil {
		l.c.Topics = defaultTopics()
	}
}

// set gives a leaf the text of one source.
func (l *loader) set(leaf *leaf, text string, o origin) {
	if err := leaf.set(text); err != nil {
		l.reject(leaf.path, o, err.Error())
		return
	}
	l.accept(leaf.path, o)
}

func (l *loader) reject(path string, o origin, message string) {
	l.bad[path] = true
	l.errorAt(o, path, message)
}

func (l *loader) accept(path string, o origin) {
	delete(l.bad, path)
	l.p.origins[path] = o
}

func (l *loader) flags(flags []Flag) {
	for _, f := range flags {
		o := origin{layer: byFlag, name: f.Name}
		if o.name == "" {
			o.name = "--" + f.Path
		}
		leaf, ok := l.leaves[f.Path]
		if !ok {
			message := "no such key"
			if near := nearest(f.Path, l.paths()); near != "" {
				message += "; did you mean " + near + "?"
			}
			l.errorAt(o, f.Path, message)
			continue
		}
		l.text(leaf, f.Value, o)
	}
}

// text gives a leaf a value from a place that knows only text.
func (l *loader) text(leaf *leaf, text string, o origin) {
	if leaf.isList() {
		l.topicsText(leaf, text, o)
		return
	}
	l.set(leaf, text, o)
}

func (l *loader) paths() []string {
	paths := make([]string, 0, len(l.leaves))
	for p := range l.leaves {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// topicsText reads a list from text: in brackets as YAML, else separated by
// commas (a comma in a topic needs the brackets).
func (l *loader) topicsText(leaf *leaf, text string, o origin) {
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		if n, ok := l.document([]byte(text), o, leaf.path); ok {
			l.topics(n, leaf, o)
		}
		return
	}
	var topics []Topic
	for part := range strings.SplitSeq(text, ",") {
		t := Topic{Topic: strings.TrimSpace(part), Format: Raw}
		if err := parseInto(reflect.ValueOf(&t.Topic).Elem(), t.Topic); err != nil {
			l.reject(leaf.path, o, err.Error())
			return
		}
		t.complete()
		topics = append(topics, t)
	}
	l.replaceTopics(topics, o)
}
