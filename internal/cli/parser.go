package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// configurationGroup are the flags that every command has and that only the program's own
// help lists.
const configurationGroup = "Configuration"

// Parser reads the command line of a program into line.
func Parser(line any, description string, build Build, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(line, append(options,
		kong.Name(build.Name), kong.Description(description), kong.Vars{"version": build.Name + " " + build.Version}, kong.Bind(build),
		kong.Help(help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 80}),
	)...)
}

// help is kong's, but the flags of the configuration are under the program alone, and
// ${program} in a command's text is the program's name.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	if ctx.Selected() == nil {
		return kong.DefaultHelpPrinter(options, ctx)
	}
	selected := ctx.Selected()
	selected.Detail = strings.ReplaceAll(selected.Detail, "${program}", ctx.Model.Name)
	hidden := false
	for _, flag := range ctx.Model.Flags {
		if flag.Group != nil && flag.Group.Title == configurationGroup || flag.Name == "version" {
			flag.Hidden, hidden = true, true
		}
	}
	err := kong.DefaultHelpPrinter(options, ctx)
	if hidden && err == nil {
		_, err = fmt.Fprintf(ctx.Stdout, "\nFlags of the configuration (-c FILE, --set KEY=VALUE, …): %s --help\n", ctx.Model.Name)
	}
	return err
}
