package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/schema"
)

// TestReference compares the tables of the docs with the struct tags.
func TestReference(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]struct {
		program       schema.Program
		configuration any
	}{
		"configuration.md":        {BridgeProgram(), &Config{}},
		"ingest-configuration.md": {IngestProgram(), &Ingest{}},
	} {
		name = filepath.Join("..", "..", "docs", name)
		was, err := os.ReadFile(name)
		require.NoError(t, err)
		is, err := reference(string(was), page.program, page.configuration)
		require.NoError(t, err)
		golden.Require(t, name, is)
	}
}

// reference writes the tables of keys into a page of the docs: what lies between
//
//	<!-- keys: mqtt -->
//	<!-- end -->
//
// becomes the section's table, "top" that of the keys outside sections. The rest of the page
// stays. Every section must have its place.
func reference(page string, program schema.Program, configuration any) (string, error) {
	root := schema.Of(configuration)
	tables := map[string]string{"top": table(program, loose(root))}
	for _, key := range root.Keys {
		if sub, ok := root.Sections[key]; ok {
			tables[key] = sub.Doc + "\n\n" + subsections(sub) + table(program, leaves(sub))
		} else if l := root.Leaves[key]; l.IsList() {
			tables[key] = fmt.Sprintf("%s `%s`. The default:\n\n```yaml\n%s:\n  - %s\n```\n\n%s", l.Tag.Get("doc"), program.Variable(key),
				key, strings.ReplaceAll(l.Default, ",", "\n  - "), table(schema.Program{}, leaves(l.Item())))
		}
	}
	place := regexp.MustCompile(`(?s)<!-- keys: (\S+) -->\n.*?<!-- end -->`)
	var unknown []string
	page = place.ReplaceAllStringFunc(page, func(old string) string {
		key := place.FindStringSubmatch(old)[1]
		text, ok := tables[key]
		if !ok {
			unknown = append(unknown, key)
			return old
		}
		delete(tables, key)
		return "<!-- keys: " + key + " -->\n\n" + text + "\n<!-- end -->"
	})
	for key := range tables {
		return "", fmt.Errorf("the page has no place for the keys of %s", key)
	}
	if len(unknown) > 0 {
		return "", fmt.Errorf("the page has a place for the keys of %s, which does not exist", strings.Join(unknown, ", "))
	}
	return page, nil
}

// leaves returns all keys at and below s.
func leaves(s *schema.Section) (all []*schema.Leaf) {
	s.Walk(func(l *schema.Leaf) { all = append(all, l) })
	return all
}

// loose returns the keys of s itself that are single values.
func loose(s *schema.Section) []*schema.Leaf {
	var all []*schema.Leaf
	for _, key := range s.Keys {
		if l, ok := s.Leaves[key]; ok && !l.IsList() {
			all = append(all, l)
		}
	}
	return all
}

// subsections returns the descriptions of a section's subsections.
func subsections(s *schema.Section) string {
	var b strings.Builder
	for _, key := range s.Keys {
		if sub, ok := s.Sections[key]; ok {
			fmt.Fprintf(&b, "- `%s`: %s\n", sub.Path, sub.Doc)
		}
	}
	if len(s.Sections) > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// table lists the keys with type, default, environment variable and meaning. Without a program
// there are no variables.
func table(program schema.Program, leaves []*schema.Leaf) string {
	var b strings.Builder
	b.WriteString("| key | type | default | environment | meaning |\n|---|---|---|---|---|\n")
	for _, l := range leaves {
		env := ""
		if program.Prefix != "" {
			env = program.Variable(l.Path)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", l.Path, l.Range(), code(l.Default), code(env), strings.ReplaceAll(l.Tag.Get("doc"), "|", `\|`))
	}
	return b.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
