package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Redacted is the configuration in force, a line a key with the source of what
// is not default; secrets are not shown.
func (c *Config) Redacted() string {
	var b strings.Builder
	schemaOf(reflect.ValueOf(c).Elem(), "", nil).walk(func(l *leaf) {
		if l.isList() {
			c.redactTopics(&b)
			return
		}
		c.line(&b, l)
	})
	return b.String()
}

// String is Redacted.
func (c *Config) String() string { return c.Redacted() }

func (c *Config) redactTopics(b *strings.Builder) {
	for i := range c.Topics {
		schemaOf(reflect.ValueOf(&c.Topics[i]).Elem(), fmt.Sprintf("topics[%d]", i), nil).walk(func(l *leaf) { c.line(b, l) })
	}
}

func (p *provenance) line(b *strings.Builder, l *leaf) {
	value := l.show()
	if value == "" {
		value = `""`
	}
	fmt.Fprintf(b, "%s: %s", l.path, value)
	switch o := p.origin(l.path); {
	case o.line > 0:
		fmt.Fprintf(b, "  # %s:%d", o.name, o.line)
	case o.name != "":
		fmt.Fprintf(b, "  # %s", o.name)
	}
	b.WriteByte('\n')
}
