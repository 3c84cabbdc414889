package cli

import (
	"fmt"

	"mqtt-nats-bridge/internal/schema"
)

// configCommand contains the commands for the configuration file.
type configCommand[C Configuration] struct {
	Init   configInit[C]   `cmd:"" help:"Print a configuration template."`
	Show   configShow[C]   `cmd:"" help:"Print the effective configuration and the source of each value."`
	Schema configSchema[C] `cmd:"" help:"Print the JSON Schema of the file, for editors."`
}

type configInit[C Configuration] struct {
	All bool `help:"Print every key, not only the most common ones."`
}

// Run implements the command.
func (i configInit[C]) Run(p *Program[C]) error {
	keys := p.Keys
	if i.All {
		keys = nil
	}
	fmt.Fprintf(p.Out, `# yaml-language-server: $schema=%s.schema.json
# To create that file, which editors use, run: %[1]s config schema
# Remove the # before a key to set it. The value after the key is its default.
`, p.Build.Name)
	return schema.Template(p.Out, p.Schema, p.Empty, keys)
}

type configShow[C Configuration] struct {
	Output
}

// Run implements the command.
func (s configShow[C]) Run(p *Program[C]) error {
	c, err := p.Load()
	if err != nil {
		return err
	}
	if s.JSON() {
		return PrintJSON(p.Out, c.Settings())
	}
	for _, s := range c.Settings() {
		if s.Origin == "" {
			s.Origin = "default"
		}
		fmt.Fprintln(p.Out, s)
	}
	return nil
}

type configSchema[C Configuration] struct{}

// Run implements the command.
func (configSchema[C]) Run(p *Program[C]) error {
	text, err := schema.JSON("Configuration of "+p.Build.Name, p.Empty)
	if err != nil {
		return err
	}
	_, err = p.Out.Write(text)
	return err
}

// Changes lists settings under a heading: all, or only those that differ from the defaults.
func Changes(settings []schema.Setting, all bool) string {
	switch {
	case all:
		return "The effective configuration:\n\n" + schema.Lines(settings)
	case len(settings) == 0:
		return "Every key has its default value.\n"
	}
	return "Settings that differ from the defaults:\n\n" + schema.Lines(settings)
}
