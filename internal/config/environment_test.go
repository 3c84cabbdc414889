package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// other is a value for each kind of key that differs from every default.
func other(t *testing.T, l *leaf, files map[string]string) string {
	t.Helper()
	if enum := l.tag.Get("enum"); enum != "" {
		for value := range strings.SplitSeq(enum, "|") {
			if value != l.def {
				return value
			}
		}
		return l.def // only one value in this version
	}
	switch l.kind() {
	case "file":
		if name, ok := files[l.path[strings.LastIndex(l.path, ".")+1:]]; ok {
			return name
		}
		return files["secret"]
	case "duration":
		switch {
		case l.tag.Get("max") == "1s":
			return "1s"
		case l.tag.Get("min") == "1m":
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
		if l.path == "mqtt.url" {
			return "mqtt://other:999,mqtt://third:999"
		}
		return "nats://other:999"
	case "list":
		return "a/{tenant}/{device}"
	case "size":
		if l.tag.Get("min") == "16MiB" {
			return "32MiB"
		}
		return "128KiB" // within every other bound
	case "number":
		return "3"
	case "rate":
		return "7"
	}
	return "other"
}

func TestEveryKeyIsAnEnvironmentVariableAndAFlag(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificates(t, dir)
	files := map[string]string{
		"ca": filepath.Join(dir, "ca.crt"), "cert": filepath.Join(dir, "bridge.crt"), "key": filepath.Join(dir, "bridge.key"),
		"secret": write(t, "secret", "s3cret\n"),
	}
	names := map[string]string{}
	schemaOf(reflect.ValueOf(&Config{}).Elem(), "", nil).walk(func(l *leaf) {
		name := EnvName(l.path)
		require.Empty(t, names[name], "%s and %s share a variable", l.path, names[name])
		names[name] = l.path
		require.False(t, serviceVariable(name), "%s would be taken for a Kubernetes service's", name)
		value := other(t, l, files)
		for source, s := range map[string]Sources{
			name:        {Env: []string{name + "=" + value}},
			"--flagged": {Flags: []Flag{{Name: "--flagged", Path: l.path, Value: value}}},
		} {
			c := &Config{}
			ld := newLoader(c)
			ld.defaults()
			ld.environment(s.Env)
			ld.flags(s.Flags)
			require.NoError(t, ld.errs.Err(), l.path)
			got := ld.leaves[l.path]
			require.Equal(t, source, c.origin(l.path).name)
			switch {
			case got.isList():
				require.Equal(t, value, c.Topics[0].Topic)
			case got.kind() == "secret":
				require.Equal(t, value, got.value.Interface().(Secret).Reveal())
			default:
				require.Equal(t, value, got.show(), l.path)
			}
		}
	})
	require.Greater(t, len(names), 60)
}

func TestTagsAreConsistent(t *testing.T) {
	t.Parallel()
	root := schemaOf(reflect.ValueOf(&Config{}).Elem(), "", nil)
	all := root.all()
	check := func(l *leaf) {
		require.NotEmpty(t, l.tag.Get("doc"), l.path)
		for _, bound := range []string{"min", "max", "step"} {
			if text := l.tag.Get(bound); text != "" {
				require.NotPanics(t, func() { l.bound(text) }, "%s of %s", bound, l.path)
			}
		}
		if l.kind() == "secret" {
			require.Contains(t, all, l.path+"_file", "every secret can come from a file")
		}
		if strings.HasSuffix(l.path, "_file") {
			require.Equal(t, "read", l.tag.Get("file"), l.path)
		}
		if l.def != "" {
			require.NoError(t, l.set(l.def), l.path)
		}
	}
	root.walk(check)
	schemaOf(reflect.ValueOf(&Topic{}).Elem(), "topics[]", nil).walk(check)

	root = schemaOf(reflect.ValueOf(&Ingest{}).Elem(), "", nil)
	all = root.all()
	root.walk(check)
}

func TestEmptyVariableIsAbsentUnlessTextIsMeant(t *testing.T) {
	t.Parallel()
	c := load(t, "admin: {listen: ':9464'}\nmqtt: {username: u, keepalive: 10s}\n",
		"BRIDGE_ADMIN_LISTEN=", "BRIDGE_MQTT_USERNAME=", "BRIDGE_MQTT_KEEPALIVE=", "BRIDGE_TOPICS=", "BRIDGE_LANES_PARTITIONS=", "NATS_URL=", "MQTT_URL=", "BRIDGE_LOG_LEVEL=")
	require.Empty(t, c.Admin.Listen)
	require.Empty(t, c.MQTT.Username)
	require.Equal(t, "10s", c.MQTT.KeepAlive.String())
	require.Len(t, c.Topics, 3)
	require.Len(t, c.Lanes.Partitions.List, 16)
}

func TestTopicsFromTheEnvironment(t *testing.T) {
	t.Parallel()
	c := load(t, "", "BRIDGE_TOPICS=a/{tenant}/{device}, b/{tenant}/{device}")
	require.Equal(t, []string{"a/{tenant}/{device}", "b/{tenant}/{device}"}, []string{c.Topics[0].Topic, c.Topics[1].Topic})
	c = load(t, "", `BRIDGE_TOPICS=[{topic: "a/{tenant}/{device}", format: envelope}, "b,c/{tenant}/{device}"]`)
	require.Equal(t, Envelope, c.Topics[0].Format)
	require.Equal(t, "b,c/{tenant}/{device}", c.Topics[1].Topic)

	require.Equal(t, []string{`BRIDGE_TOPICS: topics[0].format: "xml" is not known; write raw or envelope`},
		errorsOf(t, Sources{Env: []string{`BRIDGE_TOPICS=[{topic: a, format: xml}]`}}))
	require.Equal(t, []string{`BRIDGE_TOPICS: is not YAML: did not find expected ',' or ']'; within [ ] and { } put a text that holds braces or commas in quotes`},
		errorsOf(t, Sources{Env: []string{`BRIDGE_TOPICS=[a/{tenant}/b]`}}))
}

func TestForeignVariablesDoNotStopTheStart(t *testing.T) {
	t.Parallel()
	c := load(t, "", "BRIDGE_SERVICE_HOST=10.0.0.1", "BRIDGE_PORT=tcp://10.0.0.1:80", "BRIDGE_PORT_80_TCP_ADDR=10.0.0.1",
		"BRIDGE_MQTT_SERVICE_PORT_HTTP=1", "BRIDGE_CONFIG=x", "BRIDGET=1", "noise", "BRIDGE_FAVOURITE_COLOUR=blue")
	require.Equal(t, []string{"BRIDGE_FAVOURITE_COLOUR: is no setting of the bridge; it is ignored"}, c.Warnings())
}
