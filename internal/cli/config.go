package cli

import (
	"fmt"
	"io"

	"mqtt-nats-bridge/internal/schema"
)

// Configuration is what the config command needs to know of a program's.
type Configuration struct {
	Program schema.Program
	// Command is the program's name.
	Command string
	// Empty is a pointer to an empty configuration.
	Empty any
	// Keys are those of a new file, unless it is to have all.
	Keys []string
	// Settings loads the configuration.
	Settings func() ([]schema.Setting, error)
	Out      io.Writer
}

// ConfigCommand is about the configuration file.
type ConfigCommand struct {
	Init   configInit   `cmd:"" help:"Print a configuration template."`
	Show   configShow   `cmd:"" help:"Print the effective configuration and the source of each value."`
	Schema configSchema `cmd:"" help:"Print the JSON Schema of the file, for editors."`
}

type configInit struct {
	All bool `help:"Every key, not only those that matter."`
}

// Run implements the command.
func (i configInit) Run(c *Configuration) error {
	keys := c.Keys
	if i.All {
		keys = nil
	}
	fmt.Fprintf(c.Out, `# yaml-language-server: $schema=%s.schema.json
# That file, for editors, is printed by: %[1]s config schema
# Remove the # before a key to set it; what follows it is the default.
`, c.Command)
	return schema.Template(c.Out, c.Program, c.Empty, keys)
}

type configShow struct {
	Output
}

// Run implements the command.
func (s configShow) Run(c *Configuration) error {
	settings, err := c.Settings()
	if err != nil {
		return err
	}
	if s.JSON() {
		return PrintJSON(c.Out, settings)
	}
	for _, s := range settings {
		if s.Origin == "" {
			s.Origin = "default"
		}
		fmt.Fprintln(c.Out, s)
	}
	return nil
}

type configSchema struct{}

// Run implements the command.
func (configSchema) Run(c *Configuration) error {
	text, err := schema.JSON("Configuration of "+c.Command, c.Empty)
	if err != nil {
		return err
	}
	_, err = c.Out.Write(text)
	return err
}

// Changes lists settings under a heading: all, or only those that differ from the defaults.
func Changes(settings []schema.Setting, all bool) string {
	switch {
	case all:
		return "The configuration in force:\n\n" + schema.Lines(settings)
	case len(settings) == 0:
		return "Every key has its default.\n"
	}
	return "What differs from the defaults:\n\n" + schema.Lines(settings)
}
