package main

import "fmt"

// checkCommand shows what would be done.
type checkCommand struct{}

// Help is what --help says beyond the flags.
func (checkCommand) Help() string {
	return `Prints every key of the configuration in force, with the source of each value that is not the default; secrets are not shown. The exit code is 2 if the configuration is invalid.

Example: ingest check -c ingest.yaml`
}

// Run implements the command.
func (checkCommand) Run(p *program) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	fmt.Fprint(p.out, c.Redacted())
	return nil
}
