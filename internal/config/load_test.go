package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/schema"
)

// write puts text into a file of its own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func load(t *testing.T, yaml string, env ...string) *Config {
	t.Helper()
	c, err := Load(Sources{File: write(t, "bridge.yaml", yaml), Env: env})
	require.NoError(t, err)
	return c
}

// errors returns Load's errors for a configuration, one per line, without the file's directory.
func errorsOf(t *testing.T, s Sources, checks ...func(*Config) []Error) []string {
	t.Helper()
	_, err := Load(s, checks...)
	var all *Errors
	require.ErrorAs(t, err, &all)
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], filepath.Dir(s.File)+"/", "")
	}
	return lines
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for name, yaml := range map[string]string{
		"empty file":     "",
		"comments only":  "# nothing\n",
		"empty document": "---\n",
		"empty sections": "mqtt:\nlimits: {}\nnats:\n  tls:\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := load(t, yaml)
			none, err := Load(Sources{})
			require.NoError(t, err)
			require.Equal(t, none.String(), c.String())
			require.Empty(t, c.Warnings())
		})
	}
	c, err := Load(Sources{})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1883", c.MQTT.URL.List()[0].Address)
	require.Equal(t, 30*time.Second, c.MQTT.KeepAlive)
	require.Equal(t, Bytes(1<<20), c.MQTT.MaxPacket)
	require.Len(t, c.Lanes.Partitions.List, 16)
	require.Zero(t, c.Lanes.Count)
	require.Equal(t, Attested, c.Identity.Mode)
	require.Equal(t, RateLimit{Rate: 100, Burst: 1000}, c.Limits.Device)
	require.Equal(t, RateLimit{}, c.Limits.Tenant)
	require.Equal(t, "nats://127.0.0.1:4222", c.NATS.URL.Join())
	require.Equal(t, 3*time.Second, c.NATS.AckTimeout)
	require.Equal(t, Stream{Name: "QUARANTINE", MaxAge: 7 * 24 * time.Hour, MaxBytes: 1 << 30, MaxPerSubject: 1000}, c.Streams.Quarantine)
	require.Equal(t, Stream{Name: "TELEMETRY", MaxAge: 24 * time.Hour, MaxBytes: 10 << 30}, c.Streams.Telemetry)
	require.True(t, c.Quarantine.Store)
	require.Equal(t, defaultTopics(), c.Topics)
}

func TestSourcePrecedence(t *testing.T) {
	t.Parallel()
	file := write(t, "bridge.yaml", "mqtt: {url: mqtt://file}\nnats: {url: nats://file}\nlog: {level: warn}\n")
	plain := []string{"MQTT_URL=mqtt://plain", "NATS_URL=plain:4333"}
	env := append([]string{"BRIDGE_MQTT_URL=mqtt://env", "BRIDGE_NATS_URL=nats://env", "BRIDGE_LOG_LEVEL=debug"}, plain...)
	for _, step := range []struct {
		name             string
		sources          Sources
		mqtt, nats, logs string
	}{
		{"default", Sources{}, "mqtt://127.0.0.1:1883", "nats://127.0.0.1:4222", "info"},
		{"file", Sources{File: file}, "mqtt://file:1883", "nats://file", "warn"},
		{"plain variables alone", Sources{Env: plain}, "mqtt://plain:1883", "nats://plain:4333", "info"},
		{"plain variables over file", Sources{File: file, Env: plain}, "mqtt://plain:1883", "nats://plain:4333", "warn"},
		{"bridge variables over both", Sources{File: file, Env: env}, "mqtt://env:1883", "nats://env", "debug"},
		{"flags over all", Sources{File: file, Env: env, Flags: []Flag{{Path: "mqtt.url", Value: "mqtt://flag"}, {Path: "nats.url", Value: "nats://flag"}, {Path: "log.level", Value: "error"}}}, "mqtt://flag:1883", "nats://flag", "error"},
	} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			c, err := Load(step.sources)
			require.NoError(t, err)
			require.Equal(t, step.mqtt, c.MQTT.URL.String())
			require.Equal(t, step.nats, c.NATS.URL.Join())
			require.Equal(t, step.logs, c.Log.Level)
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	t.Run("full example contains every key", testFullExampleContainsEveryKey)
	t.Run("YAML alias is resolved", testYAMLAliasIsResolved)
	t.Run("text is kept as written", testTextIsKeptAsWritten)
	t.Run("topic inherits stream of identical default", testTopicInheritsStreamOfIdenticalDefault)
}

func testFullExampleContainsEveryKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificates(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mqtt"), []byte("m\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nats"), []byte("n\r\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "emqx_api"), []byte("e\n"), 0o600))
	example, err := os.ReadFile("testdata/full.yaml")
	require.NoError(t, err)
	here := strings.NewReplacer("/etc/mqtt-nats-bridge", dir, "/run/secrets", dir, "/var/lib/mqtt-nats-bridge", dir)
	c := load(t, here.Replace(string(example)))
	require.Equal(t, "m", c.MQTT.Password.Reveal())
	require.Equal(t, "n", c.NATS.Password.Reveal())
	require.Equal(t, defaultTopics(), c.Topics)
	require.Empty(t, c.Warnings())

	for path := range schema.Of(&Config{}).All() {
		key := path[strings.LastIndex(path, ".")+1:]
		require.Regexp(t, `[\s{,]`+key+`:`, string(example), path)
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	t.Run("errors of all sources are listed in order", testErrorsOfAllSourcesAreListedInOrder)
	t.Run("errors of Check are in the same list", testErrorsOfCheckAreInTheSameList)
	t.Run("missing or malformed file is an error", testMissingOrMalformedFileIsAnError)
	t.Run("invalid value causes no second error", testInvalidValueCausesNoSecondError)
	t.Run("error points to source of value", testErrorPointsToSourceOfValue)
}

func testErrorsOfAllSourcesAreListedInOrder(t *testing.T) {
	t.Parallel()
	got := errorsOf(t, Sources{
		File:  write(t, "bridge.yaml", "log: {level: loud}\nmqtt:\n  keepalive: abc\n"),
		Env:   []string{"BRIDGE_MQTT_KEEPALIVE=xyz", "NATS_URL=ftp://x", "BRIDGE_LANE_LINGR=1ms"},
		Flags: []Flag{{Name: "--stop", Path: "stop_timeout", Value: "soon"}, {Path: "mqtt.ur", Value: "x"}},
	})
	require.Equal(t, []string{
		`bridge.yaml:1: log.level: "loud" is not known; write debug, info, warn or error`,
		`bridge.yaml:3: mqtt.keepalive: "abc" is not a duration; write it like 30s or 2m`,
		`NATS_URL: nats.url: "ftp://x" has the unknown scheme "ftp"; write it like nats://nats:4222, several separated by commas`,
		`BRIDGE_LANE_LINGR: unknown variable; did you mean BRIDGE_LANE_LINGER?`,
		`BRIDGE_MQTT_KEEPALIVE: "xyz" is not a duration; write it like 30s or 2m`,
		`--mqtt.ur: mqtt.ur: no such key; did you mean mqtt.url?`,
		`--stop: stop_timeout: "soon" is not a duration; write it like 30s or 2m`,
	}, got)
}

func testErrorsOfCheckAreInTheSameList(t *testing.T) {
	t.Parallel()
	check := func(c *Config) []Error {
		return []Error{c.ErrorAt("topics[0].topic", "means nothing"), c.ErrorAt("topics", "are few"), c.ErrorAt("mqtt.url", "is slow"), c.ErrorAt("mqtt.share", "is odd")}
	}
	got := errorsOf(t, Sources{File: write(t, "bridge.yaml", "mqtt:\n  url: mqtt://h\n  keepalive: abc\ntopics:\n- topic: a/{tenant}/{device}\n")}, check)
	require.Equal(t, []string{
		`mqtt.share: is odd`,
		`bridge.yaml:2: mqtt.url: is slow`,
		`bridge.yaml:3: mqtt.keepalive: "abc" is not a duration; write it like 30s or 2m`,
		`bridge.yaml:5: topics[0].topic: means nothing`,
		`bridge.yaml:5: topics: are few`,
	}, got)
	got = errorsOf(t, Sources{File: write(t, "bridge.yaml", "mqtt: {url: ftp://h}\ntopics: [a/+]\n")}, check)
	require.Len(t, got, 3, "not what has an error already, nor what is in it: %q", got)
	require.Contains(t, got[0], "mqtt.share: is odd")
	require.Contains(t, got[1], "mqtt.url: \"ftp://h\" has the unknown scheme")
	require.Contains(t, got[2], "topics[0].topic: \"a/+\" contains an MQTT wildcard")
}

func testMissingOrMalformedFileIsAnError(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "bridge.yaml")
	require.Equal(t, []string{"bridge.yaml: the configuration file does not exist"}, errorsOf(t, Sources{File: missing}))
	dir := filepath.Join(t.TempDir(), "bridge.d")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.Equal(t, []string{"bridge.d: the configuration file is a directory; name a file"}, errorsOf(t, Sources{File: dir}))
	require.Equal(t, []string{"bridge.yaml:1: is a list, not a section; write keys below it as key: value, with a space after the colon"},
		errorsOf(t, Sources{File: write(t, "bridge.yaml", "- a\n")}))
	require.Equal(t, []string{"bridge.yaml: is not YAML: invalid leading UTF-8 octet (value: 255)"},
		errorsOf(t, Sources{File: write(t, "bridge.yaml", "a: \xff\n")}))
}

func testInvalidValueCausesNoSecondError(t *testing.T) {
	t.Parallel()
	// The default URL is plain text, but the user wanted TLS.
	got := errorsOf(t, Sources{File: write(t, "bridge.yaml", "mqtt: {url: 'mqtts:/x', tls: {server_name: x}}\n")})
	require.Len(t, got, 1)
	got = errorsOf(t, Sources{File: write(t, "bridge.yaml", "identity: {mode: of}\nlanes: {count: 2}\n")})
	require.Equal(t, []string{`bridge.yaml:1: identity.mode: "of" is not known; did you mean off?`}, got)
}

func testYAMLAliasIsResolved(t *testing.T) {
	t.Parallel()
	c := load(t, "limits:\n  device: &l {rate: 3, burst: 4}\n  tenant: *l\n")
	require.Equal(t, RateLimit{Rate: 3, Burst: 4}, c.Limits.Tenant)
	require.NotEmpty(t, errorsOf(t, Sources{File: write(t, "bridge.yaml", "topics: &t [*t]\n")}))
}

func testTextIsKeptAsWritten(t *testing.T) {
	t.Parallel()
	c := load(t, "mqtt: {username: 0123, password: no, client_id: 2001-01-01}\nlanes: {partitions: 0}\nidentity: {mode: attested}\n")
	require.Equal(t, "0123", c.MQTT.Username)
	require.Equal(t, "no", c.MQTT.Password.Reveal())
	require.Equal(t, "2001-01-01", c.MQTT.ClientID)
	require.Equal(t, Partitions{List: []string{"0"}}, c.Lanes.Partitions)
}

func testErrorPointsToSourceOfValue(t *testing.T) {
	t.Parallel()
	text := "topics:\n  - a/{tenant}/{device}\n  - topic: b/{tenant}/{device}\n    subject: x.y\nmqtt:\n  keepalive: 10s\n"
	file := write(t, "bridge.yaml", text)
	c, err := Load(Sources{File: file})
	require.NoError(t, err)
	for path, want := range map[string]string{
		"topics":           ":2: topics: m",
		"topics[0]":        ":2: topics[0]: m",
		"topics[0].topic":  ":2: topics[0].topic: m",
		"topics[1].topic":  ":3: topics[1].topic: m",
		"topics[1].format": ":3: topics[1].format: m",
		"mqtt.keepalive":   ":6: mqtt.keepalive: m",
	} {
		require.Equal(t, file+want, c.ErrorAt(path, "m").Error())
	}
	require.Equal(t, "mqtt.url: m", c.ErrorAt("mqtt.url", "m").Error(), "a default is nowhere")

	c, err = Load(Sources{File: file, Env: []string{"BRIDGE_TOPICS=c/{tenant}/{device}"}})
	require.NoError(t, err)
	require.Equal(t, "BRIDGE_TOPICS: topics[1].topic: m", c.ErrorAt("topics[1].topic", "m").Error(), "the file's list is gone")

	all := &Errors{}
	require.NoError(t, all.Err())
	all.Add(c.ErrorAt("topics", "m"))
	require.EqualError(t, all.Err(), "BRIDGE_TOPICS: m")
	require.Equal(t, "topics", all.List[0].Path)
}

func testTopicInheritsStreamOfIdenticalDefault(t *testing.T) {
	t.Parallel()
	c := load(t, "topics:\n  - tenant/{tenant}/device/{device}/commands/ack\n  - x/{tenant}/{device}\n  - {topic: \"y/{tenant}/{device}\", format: envelope, stream: none, subject: \"s.{tenant}\"}\n")
	require.Equal(t, []Topic{
		{Topic: "tenant/{tenant}/device/{device}/commands/ack", Format: Raw, Stream: Commands},
		{Topic: "x/{tenant}/{device}", Format: Raw, Stream: Telemetry},
		{Topic: "y/{tenant}/{device}", Format: Envelope, Stream: NoStream, Subject: "s.{tenant}"},
	}, c.Topics)
}

func TestTopicShapes(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		"topics: []\n":              "topics: is empty; write a list of topics",
		"topics: a/b\n":             "topics: is a single value; write a list of topics",
		"topics: [a/+/b]\n":         `topics[0].topic: "a/+/b" contains an MQTT wildcard`,
		"topics: [$SYS/b]\n":        `topics[0].topic: "$SYS/b" begins with $, which is reserved for the broker`,
		"topics: ['']\n":            "topics[0].topic: is empty; write a pattern",
		"topics: [{topic: ''}]\n":   "topics[0]: has no topic",
		"topics: [{tpic: a/b}]\n":   "topics[0].tpic: unknown key; did you mean topic?",
		"topics: [\"a\\u0000b\"]\n": "topics[0].topic: contains invalid UTF-8 or a control character",
	} {
		got := errorsOf(t, Sources{File: write(t, "bridge.yaml", yaml)})
		require.Contains(t, got[0], "bridge.yaml:1: "+want, yaml)
	}
}

// defaultTopics are the topics of a configuration without any.
func defaultTopics() []Topic {
	return []Topic{
		{Topic: "tenant/{tenant}/device/{device}/{type}", Format: Raw, Stream: Telemetry},
		{Topic: "tenant/{tenant}/device/{device}/shadow/reported", Format: Raw, Stream: Shadow},
		{Topic: "tenant/{tenant}/device/{device}/commands/ack", Format: Raw, Stream: Commands},
	}
}
