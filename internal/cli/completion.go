package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand prints a shell completion script.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help returns the text of --help beyond the flags.
func (completionCommand) Help() string {
	return `Prints a completion script. Load it when the shell starts:

    bash: source <(${program} completion bash)

    zsh:  source <(${program} completion zsh), after compinit

    fish: ${program} completion fish | source`
}

// Run implements the command.
func (c completionCommand) Run(k *kong.Kong) error {
	name := k.Model.Name
	function := "_" + strings.ReplaceAll(name, "-", "_")
	levels := levelsOf(k.Model.Node, "", k.Model.Flags)
	switch c.Shell {
	case "bash":
		bash(k.Stdout, name, function, levels)
	case "zsh":
		zsh(k.Stdout, name, function, levels)
	default:
		fish(k.Stdout, name, function, levels)
	}
	return nil
}

// word is a command or a flag that can come next.
type word struct{ text, help string }

// level contains the words that can follow the commands in path.
type level struct {
	path     string // like "quarantine replay"
	commands []word
	flags    []word
}

func levelsOf(n *kong.Node, path string, global []*kong.Flag) []level {
	l := level{path: path}
	flags := n.Flags
	if path != "" {
		flags = append(flags[:len(flags):len(flags)], global...)
	}
	for _, f := range flags {
		if !f.Hidden {
			l.flags = append(l.flags, word{"--" + f.Name, firstSentence(f.Help)})
		}
	}
	levels := []level{l}
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		levels[0].commands = append(levels[0].commands, word{child.Name, firstSentence(child.Help)})
		levels = append(levels, levelsOf(child, strings.TrimSpace(path+" "+child.Name), global)...)
	}
	return levels
}

func firstSentence(text string) string {
	text, _, _ = strings.Cut(text, ". ")
	return strings.TrimSuffix(text, ".")
}

func texts(words []word) string {
	var all []string
	for _, w := range words {
		all = append(all, w.text)
	}
	return strings.Join(all, " ")
}

// walk writes the part of the bash or zsh script that finds the path of commands.
func walk(w io.Writer, levels []level) {
	fmt.Fprint(w, "    case \"$path $word\" in\n")
	for _, l := range levels {
		for _, c := range l.commands {
			fmt.Fprintf(w, "      %q) path=%q ;;\n", l.path+" "+c.text, strings.TrimSpace(l.path+" "+c.text))
		}
	}
	fmt.Fprint(w, "    esac\n")
}

func bash(w io.Writer, name, function string, levels []level) {
	fmt.Fprintf(w, `%s() {
  local path="" word words="" flags="" cur="${COMP_WORDS[COMP_CWORD]}"
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
`, function)
	walk(w, levels)
	fmt.Fprint(w, "  done\n  case \"$path\" in\n")
	for _, l := range levels {
		fmt.Fprintf(w, "    %q) words=%q flags=%q ;;\n", l.path, texts(l.commands), texts(l.flags))
	}
	fmt.Fprintf(w, `  esac
  if [[ $cur == -* ]]; then words=$flags; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F %s %s
`, function, name)
}

func zsh(w io.Writer, name, function string, levels []level) {
	fmt.Fprintf(w, `#compdef %s
%s() {
  local path="" word
  local -a commands flags
  for word in ${words[2,CURRENT-1]}; do
`, name, function)
	walk(w, levels)
	fmt.Fprint(w, "  done\n  case \"$path\" in\n")
	quoted := func(words []word) string {
		var all []string
		for _, w := range words {
			all = append(all, shellQuote(strings.ReplaceAll(w.text, ":", `\:`)+":"+w.help))
		}
		return strings.Join(all, " ")
	}
	for _, l := range levels {
		fmt.Fprintf(w, "    %q) commands=(%s) flags=(%s) ;;\n", l.path, quoted(l.commands), quoted(l.flags))
	}
	fmt.Fprintf(w, `  esac
  if [[ $PREFIX == -* ]]; then _describe flag flags; return; fi
  (( $#commands )) && _describe command commands
  _files
}
compdef %s %s
`, function, name)
}

func fish(w io.Writer, name, function string, levels []level) {
	fmt.Fprintf(w, `function %s_at
  set -l path ""
  for word in (commandline -opc)[2..]
    switch "$path $word"
`, function)
	for _, l := range levels {
		for _, c := range l.commands {
			fmt.Fprintf(w, "      case %s\n        set path %s\n", shellQuote(l.path+" "+c.text), shellQuote(strings.TrimSpace(l.path+" "+c.text)))
		}
	}
	fmt.Fprint(w, "    end\n  end\n  test \"$path\" = \"$argv[1]\"\nend\n")
	for _, l := range levels {
		condition := shellQuote(function + "_at " + shellQuote(l.path))
		if strings.Contains(condition, `'\''`) {
			condition = fmt.Sprintf("%q", function+"_at '"+l.path+"'")
		}
		for _, c := range l.commands {
			fmt.Fprintf(w, "complete -c %s -n %s -f -a %s -d %s\n", name, condition, c.text, shellQuote(c.help))
		}
		for _, f := range l.flags {
			fmt.Fprintf(w, "complete -c %s -n %s -l %s -d %s\n", name, condition, strings.TrimPrefix(f.text, "--"), shellQuote(f.help))
		}
	}
}

func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
