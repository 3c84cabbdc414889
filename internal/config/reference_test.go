package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const referenceIntroduction = `# Configuration

<!-- Made from the struct tags in internal/config: go test ./internal/config -run Reference -update -->

One YAML file, the environment, the command line; every one of them may be absent. A stronger source replaces a weaker one key by key:

1. flags
2. ` + "`BRIDGE_…`" + ` variables: the path of the key in upper case, dots as underscores
3. ` + "`MQTT_URL` and `NATS_URL`" + `
4. the file
5. the defaults below

Everything wrong is reported at once, each e with its file and line, and the bridge does not start. Unknown keys are errs. An empty variable counts as absent, except where the key is a text: there it is the empty text.

Durations are written ` + "`500ms`, `30s`, `2m`, `24h` or `7d`" + `; sizes ` + "`65536`, `256KiB`, `1MiB` or `10GiB`" + `; rates as messages per second, ` + "`10` or `0.5`" + `, or ` + "`30/m`, `100/h`" + `. File names are relative to the working directory. A file that is named must be there: nothing falls back to plain text or to no password. Each secret can come from a file (` + "`…_file`" + `); given both ways in one source is a e.

Within ` + "`[ ]` and `{ }`" + ` a topic with braces needs quotes: ` + "`{topic: \"a/{tenant}/{device}\", format: envelope}`" + `.
`

func TestReferenceIsWhatTheDocsSay(t *testing.T) {
	t.Parallel()
	golden(t, filepath.Join("..", "..", "docs", "configuration.md"), reference())
}

// reference is docs/configuration.md: every key with its type, default,
// environment variable and meaning.
func reference() string {
	root := schemaOf(reflect.ValueOf(&Config{}).Elem(), "", nil)
	var b strings.Builder
	b.WriteString(referenceIntroduction)

	b.WriteString("\n## Top level\n\n")
	tableHead(&b)
	for _, key := range root.keys {
		if l, ok := root.leaves[key]; ok && !l.isList() {
			tableRow(&b, l, EnvName(l.path))
		}
	}
	for _, key := range root.keys {
		if l, ok := root.leaves[key]; ok && l.isList() {
			topicReference(&b, l)
		} else if sub, ok := root.sections[key]; ok {
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", key, sub.doc)
			subsections(&b, sub)
			tableHead(&b)
			sub.walk(func(l *leaf) { tableRow(&b, l, EnvName(l.path)) })
		}
	}
	return b.String()
}

// subsections says what the sections within a section are.
func subsections(b *strings.Builder, s *section) {
	for _, key := range s.keys {
		if sub, ok := s.sections[key]; ok {
			fmt.Fprintf(b, "- `%s`: %s\n", sub.path, sub.doc)
		}
	}
	if len(s.sections) > 0 {
		b.WriteByte('\n')
	}
}

func topicReference(b *strings.Builder, l *leaf) {
	fmt.Fprintf(b, "\n## %s\n\n%s `%s`. The default:\n\n```yaml\ntopics:\n", l.path, l.tag.Get("doc"), EnvName(l.path))
	for _, t := range defaultTopics() {
		fmt.Fprintf(b, "  - %s\n", t.Topic)
	}
	b.WriteString("```\n\n")
	tableHead(b)
	schemaOf(reflect.ValueOf(&Topic{}).Elem(), l.path+"[]", nil).walk(func(l *leaf) { tableRow(b, l, "") })
}

const ingestIntroduction = `# Configuration of ingest

<!-- Made from the struct tags in internal/config: go test ./internal/config -run Reference -update -->

As the bridge's ([configuration.md](configuration.md)): one YAML file, the environment, the command line; a stronger source replaces a weaker one key by key: flags, ` + "`INGEST_…`" + ` variables, ` + "`DATABASE_URL` and `NATS_URL`" + `, the file, the defaults below. Everything wrong is reported at once.
`

func TestReferenceOfIngestIsWhatTheDocsSay(t *testing.T) {
	t.Parallel()
	root := schemaOf(reflect.ValueOf(&Ingest{}).Elem(), "", nil)
	var b strings.Builder
	b.WriteString(ingestIntroduction)
	b.WriteString("\n## Top level\n\n")
	tableHead(&b)
	for _, key := range root.keys {
		if l, ok := root.leaves[key]; ok {
			tableRow(&b, l, ingestProgram().variable(l.path))
		}
	}
	for _, key := range root.keys {
		if sub, ok := root.sections[key]; ok {
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", key, sub.doc)
			subsections(&b, sub)
			tableHead(&b)
			sub.walk(func(l *leaf) { tableRow(&b, l, ingestProgram().variable(l.path)) })
		}
	}
	golden(t, filepath.Join("..", "..", "docs", "ingest-configuration.md"), b.String())
}

func tableHead(b *strings.Builder) {
	b.WriteString("| key | type | default | environment | meaning |\n|---|---|---|---|---|\n")
}

func tableRow(b *strings.Builder, l *leaf, env string) {
	kind := l.kind()
	switch least, most := l.tag.Get("min"), l.tag.Get("max"); {
	case least != "" && most != "":
		kind += ", " + least + " to " + most
	case least != "":
		kind += ", from " + least
	case most != "":
		kind += ", up to " + most
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", l.path, kind, code(l.def), code(env), strings.ReplaceAll(l.tag.Get("doc"), "|", `\|`))
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
