package schema

import (
	"reflect"
	"slices"
)

// Reload compares the running configuration with next. now is running with the changed values that
// apply without a restart, changed contains their paths, and restart contains the changed paths that
// need a restart. Paths have the order of the file, and a list is one path. The paths in live, the
// paths below them, and secrets in files apply without a restart: a file is read again at each connect.
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

// sameFile reports whether both values of a key name the same file.
func sameFile(a, b *Leaf) bool {
	return a.Value.String() != "" && a.Value.String() == b.Value.String()
}
