package schema

import (
	"reflect"
	"slices"
	"strings"
)

// Differences returns the paths whose values differ between two configurations of one
// program, in the order of the file. A list is one path. Secrets are compared and not
// shown.
func Differences[T any](a, b *T) []string {
	var paths []string
	others := Of(b).All()
	Of(a).Walk(func(l *Leaf) {
		if !reflect.DeepEqual(l.Value.Interface(), others[l.Path].Value.Interface()) {
			paths = append(paths, l.Path)
		}
	})
	return paths
}

// With returns a copy of c with the values of other at these paths.
func With[T any](c, other *T, paths ...string) *T {
	next := *c
	from := Of(other).All()
	for path, l := range Of(&next).All() {
		if slices.Contains(paths, path) {
			l.Value.Set(from[path].Value)
		}
	}
	return &next
}

// Reread returns the secrets of a that come from the files from which those of b came. They
// are read again at each connect, so that a new content needs no restart.
func Reread[T any](a, b *T) []string {
	var paths []string
	ours, theirs := Of(a), Of(b).All()
	all := ours.All()
	ours.Walk(func(l *Leaf) {
		secret := strings.TrimSuffix(l.Path, "_file")
		if _, ok := all[secret]; !ok || secret == l.Path {
			return
		}
		if name := l.Value.String(); name != "" && name == theirs[l.Path].Value.String() {
			paths = append(paths, secret)
		}
	})
	return paths
}
