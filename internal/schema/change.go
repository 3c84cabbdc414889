package schema

import (
	"reflect"
	"slices"
)

// Reload compares the configuration in force with next, of the same program. It returns running
// with the values of next that apply without a restart, the paths of these, and the paths that
// differ and need one, in the order of the file; a list is one path. Without a restart apply the
// paths in live with those below them, and secrets in files, which are read again at each connect.
func Reload[T any](running, next *T, live ...string) (now *T, changed, restart []string) {
	copied := *running
	old, current := Of(&copied), Of(next).All()
	files := old.All()
	old.Walk(func(l *Leaf) {
		value := current[l.Path].Value
		if reflect.DeepEqual(l.Value.Interface(), value.Interface()) {
			return
		}
		if file, ok := files[l.Path+"_file"]; ok && sameFile(file, current[file.Path]) || slices.ContainsFunc(live, func(path string) bool { return within(l.Path, path) }) {
			changed = append(changed, l.Path)
			l.Value.Set(value)
		} else {
			restart = append(restart, l.Path)
		}
	})
	return &copied, changed, restart
}

// sameFile reports whether two values of a key name the same file.
func sameFile(a, b *Leaf) bool {
	return a.Value.String() != "" && a.Value.String() == b.Value.String()
}
