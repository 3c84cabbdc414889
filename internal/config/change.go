package config

import (
	"maps"
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

// Reread are the secrets of c that come from the files from which those of running came.
// They are read again at each connect, so that a new content needs no restart.
func (c *Config) Reread(running *Config) []string {
	return append(c.NATS.Reread(running.NATS.Account), reread(map[string][2]string{
		"mqtt.password":                  {c.MQTT.PasswordFile, running.MQTT.PasswordFile},
		"mqtt.headers":                   {c.MQTT.HeadersFile, running.MQTT.HeadersFile},
		"mqtt.emqx.secret":               {c.MQTT.EMQX.SecretFile, running.MQTT.EMQX.SecretFile},
		"identity.registry.database_url": {c.Identity.Registry.DatabaseURLFile, running.Identity.Registry.DatabaseURLFile},
	})...)
}

// Reread is as [Config.Reread].
func (a Account) Reread(running Account) []string {
	return reread(map[string][2]string{
		"nats.password": {a.PasswordFile, running.PasswordFile},
		"nats.token":    {a.TokenFile, running.TokenFile},
	})
}

// reread returns the keys whose two files are one.
func reread(files map[string][2]string) []string {
	var paths []string
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if f := files[path]; f[0] != "" && f[0] == f[1] {
			paths = append(paths, path)
		}
	}
	return paths
}
