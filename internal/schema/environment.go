package schema

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// environment applies the plain variables (NATS_URL), then the program's own. An empty variable counts
// as absent, unless empty text is a valid value. Compose's ${NAME:-} sets such empty variables.
func (l *Loader) environment(environ []string) {
	env := map[string]string{}
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		// The first of two entries wins, as in os.Getenv.
		if _, twice := env[name]; ok && !twice {
			env[name] = value
		}
	}
	for _, plain := range l.program.Plain {
		name, path := plain[0], plain[1]
		if value := env[name]; value != "" {
			l.text(l.leaves[path], value, origin{layer: byPlainEnv, Source: name})
		}
	}
	known := map[string]*Leaf{}
	for path, leaf := range l.leaves {
		known[l.program.Variable(path)] = leaf
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, l.program.Prefix) {
			continue
		}
		o := origin{layer: byEnv, Source: name}
		leaf, ok := known[name]
		switch {
		case !ok:
			l.unknownVariable(name, known, o)
		case env[name] != "" || leaf.isText():
			l.text(leaf, env[name], o)
		}
	}
}

// unknownVariable reports a variable without a key. A likely typing error is an error, because the
// setting would be ignored silently. Other variables may belong to other programs and cause a warning:
// for a service named bridge, Kubernetes sets BRIDGE_SERVICE_HOST, BRIDGE_PORT and more.
func (l *Loader) unknownVariable(name string, known map[string]*Leaf, o origin) {
	// The variable CONFIG names the configuration file, which the command has already read.
	if name == l.program.Prefix+"CONFIG" || serviceVariable(name) {
		return
	}
	if near := closest(name, slices.Sorted(maps.Keys(known)), 2); near != "" {
		l.errorAt(o, "", "unknown variable; did you mean "+near+"?")
		return
	}
	l.p.warnings = append(l.p.warnings, o.errorAt("", "is not a setting of "+l.program.Name+"; it is ignored"))
}

// serviceVariable reports whether Kubernetes creates variables with this form of name for services.
func serviceVariable(name string) bool {
	return regexp.MustCompile(`_SERVICE_(HOST|PORT(_.*)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`).MatchString(name)
}
