package config

import (
	"reflect"
	"slices"
)

// Differences returns the paths whose values differ between two configurations of one
// program, in the order of the file. The topics are one path. Secrets are compared and not
// shown.
func Differences[T Config | Ingest](a, b *T) []string {
	var paths []string
	of := func(c *T) (leaves []*leaf) {
		schemaOf(reflect.ValueOf(c).Elem(), "", nil).walk(func(l *leaf) { leaves = append(leaves, l) })
		return leaves
	}
	others := of(b)
	for i, l := range of(a) {
		if !reflect.DeepEqual(l.value.Interface(), others[i].value.Interface()) {
			paths = append(paths, l.path)
		}
	}
	return paths
}

// With returns a copy of c with the values of other at these paths.
func With[T Config | Ingest](c, other *T, paths ...string) *T {
	next := *c
	from := schemaOf(reflect.ValueOf(other).Elem(), "", nil).all()
	for path, l := range schemaOf(reflect.ValueOf(&next).Elem(), "", nil).all() {
		if slices.Contains(paths, path) {
			l.value.Set(from[path].value)
		}
	}
	return &next
}

// Reread are the secrets that come from the files from which those of running came. They are
// read again at each connect, so that a new content needs no restart.
func (a Account) Reread(running Account) []string {
	var paths []string
	if a.PasswordFile != "" && a.PasswordFile == running.PasswordFile {
		paths = append(paths, "nats.password")
	}
	if a.TokenFile != "" && a.TokenFile == running.TokenFile {
		paths = append(paths, "nats.token")
	}
	return paths
}
