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
		file := files[l.Path+"_file"]
		sameFile := file != nil && !file.Value.IsZero() && file.Value.Equal(current[file.Path].Value)
		if sameFile || slices.ContainsFunc(live, func(path string) bool { return within(l.Path, path) }) {
			changed = append(changed, l.Path)
			l.Value.Set(value)
		} else {
			restart = append(restart, l.Path)
		}
	})
	return &copied, changed, restart
}
