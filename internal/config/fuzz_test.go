package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"mqtt-nats-bridge/internal/schema"
)

// canary is a password that must never be shown.
const canary = "canary-83c1f0d2"

// Any file and environment yields a complete Config or Errors. A Config can be written to a file or
// the environment and is read back unchanged. No error and no listing shows a secret.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("find seeds", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "TOPICS", "a/{tenant}/{device}")
	}
	for _, seed := range []struct{ file, name, value string }{
		{"topics: &t [*t, {topic: *t}]\n? [a]\n: b", "TOPICS", "[{topic: x}]"},
		{"mqtt: {url: 'mqtt://u:p@h'}\nlimits: {device: {rate: 1e-300, burst: 1}}", "TOPICS", "["},
		{"nats: {url: 'nats://u:p@a,tls://b:1'}\nadmin: {listen: ''}", "LANES_PARTITIONS", "0-3,8-b"},
		{"identity: {mode: off}\nmqtt: {share: g}\nstate_dir: \"/s\\u00e4\"", "LANES_COUNT", "4"},
		{"mqtt: {username: x, password: \"a\\tb\\0\"}", "MQTT_KEEPALIVE", "65535s"},
		{"limits: {payload: 2MiB, device: {rate: 0.1, burst: 3}, idle: 1h1m}", "LIMITS_TENANT_RATE", "1e3"},
		{"topics: [{topic: 'a/{tenant}/{device}', subject: 'x.{device}', format: envelope, stream: none}]", "STREAMS_TELEMETRY_MAX_BYTES", "1TiB"},
	} {
		f.Add([]byte(seed.file), seed.name, seed.value)
	}
	name := filepath.Join(f.TempDir(), "bridge.yaml")
	standard := loadText(f, name, nil, nil)
	f.Fuzz(func(t *testing.T, data []byte, variable, value string) {
		if c := loadText(t, name, data, withCanary("BRIDGE_"+variable+"="+value)); c != nil {
			requireWrittenIsRead(t, name, c, standard)
		}
	})
}

func withCanary(environ ...string) []string {
	return append(environ, "BRIDGE_MQTT_USERNAME=bridge", "BRIDGE_MQTT_PASSWORD="+canary)
}

func TestConfigurationRoundTrip(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "bridge.yaml")
	standard := loadText(t, name, nil, nil)
	for _, file := range []string{
		"", "admin: {listen: ''}\nlanes: {partitions: 0-3}", "nats: {url: 'nats://u:p@a,tls://b:1'}", "nats: {token: \"t\\x01\\x85\"}",
		"identity: {mode: off}\nmqtt: {url: 'ssl://h'}\nlimits: {device: {rate: 0.1, burst: 3}, idle: 1h1m}\nstate_dir: /s",
		"topics: [{topic: 'a/{tenant}/{device}', subject: 'x.{device}', format: envelope, stream: none}]",
	} {
		c := loadText(t, name, []byte(file), withCanary())
		if c == nil {
			t.Fatalf("%q has errors", file)
		}
		requireWrittenIsRead(t, name, c, standard)
	}
}

// c can be written and is read back unchanged.
func requireWrittenIsRead(t *testing.T, name string, c, standard *Config) {
	t.Helper()
	if c.String() == "" || len(c.ClientIDs()) == 0 || len(c.Topics) == 0 {
		t.Fatal("load an incomplete configuration without an error")
	}
	want := values(c)
	leaves := written(c, standard)
	environ := make([]string, 0, len(leaves))
	plain := true
	for path, text := range leaves {
		environ = append(environ, BridgeProgram().Variable(path)+"="+text)
		plain = plain && utf8.ValidString(text)
	}
	requireSame(t, want, loadText(t, name, nil, environ))
	if plain { // YAML cannot contain others
		requireSame(t, want, loadText(t, name, asFile(c, leaves), nil))
	}
}

// loadText loads a file and an environment; it returns nil on errors.
func loadText(t testing.TB, name string, file []byte, environ []string) *Config {
	t.Helper()
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{File: name, Env: environ})
	shown := fmt.Sprint(err)
	if err == nil {
		shown = c.String() + fmt.Sprintf("%+v %#v", c, c.MQTT)
	}
	if strings.Contains(shown, canary) {
		t.Fatalf("a secret is shown: %s", shown)
	}
	var errs *Errors
	if err != nil && (!errors.As(err, &errs) || len(errs.List) == 0) {
		t.Fatalf("fail without errors: %v", err)
	}
	return c
}

// text is a leaf's value in the file's syntax, with secrets in clear text.
func text(l *schema.Leaf) string {
	switch v := l.Value.Interface().(type) {
	case Secret:
		return v.Reveal()
	case Servers:
		return v.Join()
	}
	return l.Show()
}

func walk(c *Config, visit func(*schema.Leaf)) { schema.Of(c).Walk(visit) }

// values maps each path to its value.
func values(c *Config) map[string]string {
	all := map[string]string{}
	walk(c, func(l *schema.Leaf) {
		if l.IsList() {
			all[l.Path] = fmt.Sprintf("%q", c.Topics)
			return
		}
		all[l.Path] = text(l)
	})
	return all
}

// written returns the settings that differ from the defaults.
func written(c, standard *Config) map[string]string {
	usual, all := values(standard), map[string]string{}
	walk(c, func(l *schema.Leaf) {
		switch _, isSecret := l.Value.Interface().(Secret); {
		case l.IsList():
			var topics []string
			for _, topic := range c.Topics {
				topics = append(topics, fmt.Sprintf("{topic: %+q, subject: %+q, format: %s, stream: %s}",
					topic.Topic, topic.Subject, topic.Format, topic.Stream))
			}
			all[l.Path] = "[" + strings.Join(topics, ", ") + "]"
		case isSecret && values(c)[l.Path+"_file"] != "": // the value came from the file
		case c.Given(l.Path) || !l.Value.IsZero() && text(l) != usual[l.Path]:
			all[l.Path] = text(l)
		}
	})
	return all
}

// asFile is a file with these values, each quoted: Go's ASCII form is valid YAML.
func asFile(c *Config, leaves map[string]string) []byte {
	var file strings.Builder
	open := ""
	walk(c, func(l *schema.Leaf) {
		text, ok := leaves[l.Path]
		if !ok {
			return
		}
		keys := strings.Split(l.Path, ".")
		for i, key := range keys[:len(keys)-1] {
			if section := strings.Join(keys[:i+1], ".") + "."; !strings.HasPrefix(open, section) {
				fmt.Fprintf(&file, "%s%s:\n", strings.Repeat("  ", i), key)
			}
		}
		open = l.Path
		if !l.IsList() {
			text = strconv.QuoteToASCII(text)
		}
		fmt.Fprintf(&file, "%s%s: %s\n", strings.Repeat("  ", len(keys)-1), keys[len(keys)-1], text)
	})
	return []byte(file.String())
}

func requireSame(t *testing.T, want map[string]string, c *Config) {
	t.Helper()
	if c == nil {
		t.Fatal("what was read cannot be written")
	}
	for path, text := range values(c) {
		if text != want[path] {
			t.Fatalf("%s: write %q, read %q", path, want[path], text)
		}
	}
}
