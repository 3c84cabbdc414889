package config

import (
	"reflect"
	"slices"
)

// Differences returns the paths whose values differ between two configurations, in
// the order of the file. The topics are one path. Secrets are compared and not
// shown.
func Differences(a, b *Config) []string {
	var paths []string
	of := func(c *Config) (leaves []*leaf) {
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

// With returns c with the values of other at these paths.
func (c *Config) With(other *Config, paths ...string) *Config {
	next := *c
	from := schemaOf(reflect.ValueOf(other).Elem(), "", nil).all()
	for path, l := range schemaOf(reflect.ValueOf(&next).Elem(), "", nil).all() {
		if slices.Contains(paths, path) {
			l.value.Set(from[path].value)
		}
	}
	return &next
}
