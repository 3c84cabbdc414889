package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/schema"
)

// other returns a value for each kind of key that differs from every default.
func other(t *testing.T, l *schema.Leaf, files map[string]string) string {
	t.Helper()
	if enum := l.Tag.Get("enum"); enum != "" {
		for value := range strings.SplitSeq(enum, "|") {
			if value != l.Default {
				return value
			}
		}
		return l.Default // only one value in this version
	}
	switch l.Kind() {
	case "file":
		if name, ok := files[l.Path[strings.LastIndex(l.Path, ".")+1:]]; ok {
			return name
		}
		return files["secret"]
	case "duration":
		switch {
		case l.Tag.Get("max") == "1s":
			return "1s"
		case l.Tag.Get("min") == "1m":
			return "2m"
		}
		return "4s"
	case "true or false":
		return "false"
	case "partitions":
		return "3"
	case "HTTP URL":
		return "https://other:999"
	case "database URL":
		return "postgres://other@db:999/other"
	case "URLs":
		if l.Path == "mqtt.url" {
			return "mqtt://other:999,mqtt://third:999"
		}
		return "nats://other:999"
	case "list":
		return "a/{tenant}/{device}"
	case "size":
		if l.Tag.Get("min") == "16MiB" {
			return "32MiB"
		}
		return "128KiB" // within all other bounds
	case "number":
		return "3"
	case "rate":
		return "7"
	case "ratio":
		return "0.5"
	}
	return "other"
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	t.Run("each key is a variable and a flag", testEachKeyIsAVariableAndAFlag)
	t.Run("empty variable is unset unless key is text", testEmptyVariableIsUnsetUnlessKeyIsText)
	t.Run("topic list is parsed", testTopicListIsParsed)
	t.Run("foreign variables cause no error", testForeignVariablesCauseNoError)
}

func testEachKeyIsAVariableAndAFlag(t *testing.T) {
	t.Parallel()
	n := requireEachKey(t, BridgeProgram(), func() (*Config, *schema.Provenance) { c := &Config{}; return c, &c.Provenance })
	require.Greater(t, n, 60)
}

// requireEachKey sets each key of a program's configuration by its variable and by a flag. It
// returns the number of keys.
func requireEachKey[C any](t *testing.T, program schema.Program, empty func() (C, *schema.Provenance)) int {
	t.Helper()
	dir := t.TempDir()
	certificates(t, dir)
	files := map[string]string{
		"ca": filepath.Join(dir, "ca.crt"), "cert": filepath.Join(dir, "bridge.crt"), "key": filepath.Join(dir, "bridge.key"),
		"secret": write(t, "secret", "s3cret\n"),
	}
	names := map[string]string{}
	model, _ := empty()
	schema.Of(model).Walk(func(l *schema.Leaf) {
		name := program.Variable(l.Path)
		require.Empty(t, names[name], "%s and %s share a variable", l.Path, names[name])
		names[name] = l.Path
		value := other(t, l, files)
		for source, s := range map[string]Sources{
			name:        {Env: []string{name + "=" + value}},
			"--flagged": {Flags: []Flag{{Name: "--flagged", Path: l.Path, Value: value}}},
		} {
			c, provenance := empty()
			ld := schema.NewLoader(program, c, provenance)
			ld.Read(s)
			require.NoError(t, ld.Err(), l.Path)
			got := schema.Of(c).All()[l.Path]
			require.Equal(t, source, provenance.ErrorAt(l.Path, "").Source)
			switch {
			case got.IsList():
				require.Equal(t, value, got.Value.Interface().([]Topic)[0].Topic)
			case got.Kind() == "secret":
				require.Equal(t, value, got.Value.Interface().(Secret).Reveal())
			default:
				require.Equal(t, value, got.Show(), l.Path)
			}
		}
	})
	return len(names)
}

func TestStructTags(t *testing.T) {
	t.Parallel()
	root := schema.Of(&Config{})
	all := root.All()
	check := func(l *schema.Leaf) {
		require.NotEmpty(t, l.Tag.Get("doc"), l.Path)
		for _, bound := range []string{"min", "max", "step"} {
			if text := l.Tag.Get(bound); text != "" {
				require.NotPanics(t, func() { l.Bound(text) }, "%s of %s", bound, l.Path)
			}
		}
		if l.Kind() == "secret" {
			require.Contains(t, all, l.Path+"_file", "every secret can come from a file")
		}
		if strings.HasSuffix(l.Path, "_file") {
			require.Equal(t, "read", l.Tag.Get("file"), l.Path)
		}
		if l.Default != "" {
			require.NoError(t, l.Set(l.Default), l.Path)
		}
	}
	root.Walk(check)
	schema.Of(&[]Topic{{}}[0]).Walk(check)

	root = schema.Of(&Ingest{})
	all = root.All()
	root.Walk(check)
}

func testEmptyVariableIsUnsetUnlessKeyIsText(t *testing.T) {
	t.Parallel()
	c := load(t, "admin: {listen: ':9464'}\nmqtt: {username: u, keepalive: 10s}\n",
		"BRIDGE_ADMIN_LISTEN=", "BRIDGE_MQTT_USERNAME=", "BRIDGE_MQTT_KEEPALIVE=", "BRIDGE_TOPICS=", "BRIDGE_LANES_PARTITIONS=", "NATS_URL=", "MQTT_URL=", "BRIDGE_LOG_LEVEL=")
	require.Empty(t, c.Admin.Listen)
	require.Empty(t, c.MQTT.Username)
	require.Equal(t, "10s", c.MQTT.KeepAlive.String())
	require.Len(t, c.Topics, 3)
	require.Len(t, c.Lanes.Partitions.List, 16)
}

func testTopicListIsParsed(t *testing.T) {
	t.Parallel()
	c := load(t, "", "BRIDGE_TOPICS=a/{tenant}/{device}, b/{tenant}/{device}")
	require.Equal(t, []string{"a/{tenant}/{device}", "b/{tenant}/{device}"}, []string{c.Topics[0].Topic, c.Topics[1].Topic})
	c = load(t, "", `BRIDGE_TOPICS=[{topic: "a/{tenant}/{device}", format: envelope}, "b,c/{tenant}/{device}"]`)
	require.Equal(t, Envelope, c.Topics[0].Format)
	require.Equal(t, "b,c/{tenant}/{device}", c.Topics[1].Topic)

	require.Equal(t, []string{`BRIDGE_TOPICS: topics[0].format: "xml" is not known; write raw or envelope`},
		errorsOf(t, Sources{Env: []string{`BRIDGE_TOPICS=[{topic: a, format: xml}]`}}))
	require.Equal(t, []string{`BRIDGE_TOPICS: is not YAML: did not find expected ',' or ']'; within [ ] and { }, quote text that contains braces or commas`},
		errorsOf(t, Sources{Env: []string{`BRIDGE_TOPICS=[a/{tenant}/b]`}}))
}

func testForeignVariablesCauseNoError(t *testing.T) {
	t.Parallel()
	c := load(t, "", "BRIDGE_SERVICE_HOST=10.0.0.1", "BRIDGE_PORT=tcp://10.0.0.1:80", "BRIDGE_PORT_80_TCP_ADDR=10.0.0.1",
		"BRIDGE_MQTT_SERVICE_PORT_HTTP=1", "BRIDGE_CONFIG=x", "BRIDGET=1", "noise", "BRIDGE_FAVOURITE_COLOUR=blue")
	require.Equal(t, []string{"BRIDGE_FAVOURITE_COLOUR: is not a setting of the bridge; it is ignored"}, c.Warnings())
}
