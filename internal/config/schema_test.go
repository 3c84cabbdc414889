package config

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/schema"
)

var configurations = map[string]struct {
	empty   any
	program schema.Program
	keys    []string
	load    func(file string) (listing string, err error)
}{
	"mqtt-nats-bridge": {&Config{}, BridgeProgram(), BridgeKeys(), func(file string) (string, error) {
		c, err := Load(Sources{File: file})
		if err != nil {
			return "", err
		}
		return c.String(), nil
	}},
	"ingest": {&Ingest{}, IngestProgram(), IngestKeys(), func(file string) (string, error) {
		c, err := LoadIngest(Sources{File: file})
		if err != nil {
			return "", err
		}
		return c.String(), nil
	}},
}

func compiled(t *testing.T, name string, empty any) *jsonschema.Schema {
	t.Helper()
	text, err := schema.JSON("Configuration of "+name, empty)
	require.NoError(t, err)
	golden.Require(t, filepath.Join("..", "..", "docs", name+".schema.json"), string(text))
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource(name, document))
	s, err := c.Compile(name)
	require.NoError(t, err)
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, file string) error {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var document any
	require.NoError(t, yaml.Unmarshal(text, &document))
	return s.Validate(document)
}

// Files that the programs accept are valid; those with a syntax error are not.
func TestJSONSchema(t *testing.T) {
	t.Parallel()
	s := compiled(t, "mqtt-nats-bridge", &Config{})
	require.NoError(t, validate(t, s, "testdata/full.yaml"))
	for _, file := range []string{"testdata/errors.range.yaml", "testdata/errors.types.yaml", "testdata/errors.later.yaml"} {
		require.Error(t, validate(t, s, file), file)
	}
	for _, text := range []string{
		"mqtt: {keepaliv: 30s}", "mqtt: {keepalive: 30}", "topics: []", "topics: [{format: raw}]", "lanes: {count: 300}",
		"limits: {payload: lots}", "log: {level: loud}", "logs: {}",
	} {
		require.Error(t, validate(t, s, write(t, "wrong.yaml", text)), text)
	}
	for _, text := range []string{
		"mqtt:\n  tls:\n", "mqtt: {url: [mqtt://a, mqtt://b], password: 123, keepalive: 1m30s}", "nats: {leaf: {max_age: 7d}}",
		"limits: {payload: 65536, device: {rate: 30/m, burst: '5'}}", "topics: ['a/{tenant}/{device}', {topic: 'b/{tenant}/{device}', stream: none}]",
	} {
		require.NoError(t, validate(t, s, write(t, "right.yaml", text)), text)
	}
}

// The configurations in README and docs are valid.
func TestJSONSchema_examples(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?ms)^```yaml\\n(.*?)^```$")
	found := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range block.FindAllSubmatch(text, -1) {
			var document map[string]any
			if yaml.Unmarshal(m[1], &document) != nil {
				continue // a fragment
			}
			for name, p := range configurations {
				if !known(document, schema.Of(p.empty)) {
					continue
				}
				found++
				require.NoError(t, compiled(t, name, p.empty).Validate(any(document)), "%s: %s", page, m[1])
			}
		}
	}
	require.Greater(t, found, 5)
}

func known(document map[string]any, s *schema.Section) bool {
	for key := range document {
		if !slices.Contains(s.Keys, key) {
			return false
		}
	}
	return len(document) > 0
}

// The template changes nothing. With its comments removed it lists the defaults, is valid, and
// loads.
func TestTemplate(t *testing.T) {
	t.Parallel()
	for name, p := range configurations {
		s := compiled(t, name, p.empty)
		defaults, err := p.load("")
		require.NoError(t, err)
		for file, keys := range map[string][]string{"short": p.keys, "all": nil} {
			var text bytes.Buffer
			require.NoError(t, schema.Template(&text, p.program, p.empty, keys))
			for line := range bytes.Lines(text.Bytes()) {
				require.LessOrEqual(t, len([]rune(string(line))), 100, "%s", line)
			}
			untouched := write(t, file+".yaml", text.String())
			listing, err := p.load(untouched)
			require.NoError(t, err)
			require.Equal(t, defaults, listing)
			require.NoError(t, validate(t, s, untouched))
			// Keys without a default are left out, and so are keys of another mode.
			filled := regexp.MustCompile(`(?m)^( *)#(\w+:( [^" \n].*)?$|  - )`).ReplaceAllString(text.String(), "$1$2")
			require.NoError(t, validate(t, s, write(t, file+"-filled.yaml", filled)), "%s", filled)
		}
		for _, key := range p.keys {
			require.Contains(t, schema.Of(p.empty).All(), key)
		}
	}
}
