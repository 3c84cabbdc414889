package doctest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// page contains the commands and text of a page under docs/.
type page struct {
	name   string
	blocks []block
	prose  []string // lines outside blocks
}

// block is a fenced block.
type block struct {
	line     int // of its first content line
	language string
	info     string // the text after the language
	text     string
	commands []command // of a console block
}

// command is a command and its expected output.
type command struct {
	line   int
	text   string // as written on the page
	prints []string
	status int
}

func readPage(t *testing.T, name string) *page {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	require.NoError(t, err)
	p, err := parsePage(name, string(data))
	require.NoError(t, err)
	return p
}

const fence = "```"

func parsePage(name, text string) (*page, error) {
	p := &page{name: name}
	var open *block
	var lines []string
	for i, line := range strings.Split(text, "\n") {
		info, isFence := strings.CutPrefix(strings.TrimSpace(line), fence)
		switch {
		case open == nil && isFence:
			language, rest, _ := strings.Cut(info, " ")
			open, lines = &block{line: i + 2, language: language, info: rest}, nil
		case open == nil:
			p.prose = append(p.prose, line)
		case isFence:
			open.text = strings.Join(lines, "\n")
			if err := open.parse(lines); err != nil {
				return nil, fmt.Errorf("%s:%w", name, err)
			}
			p.blocks = append(p.blocks, *open)
			open = nil
		default:
			lines = append(lines, line)
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s:%d: the block does not end", name, open.line)
	}
	return p, nil
}

// parse reads the commands. It refuses a block that looks executable but would not be run.
func (b *block) parse(lines []string) error {
	switch b.language {
	case "console":
	case "yaml", "sql", "text", "json", "go", "python":
		for i, line := range lines {
			if strings.HasPrefix(line, "$ ") {
				return fmt.Errorf("%d: a command in a block of %s is not run: make it a console block", b.line+i, b.language)
			}
		}
		return nil
	default:
		return fmt.Errorf("%d: a block of %q is not known to the tests", b.line, b.language)
	}
	switch b.info {
	case "", "terminal", "elsewhere":
	default:
		return fmt.Errorf("%d: console %q is not known to the tests", b.line, b.info)
	}
	var current *command
	continued := false
	for i, line := range lines {
		at := b.line + i
		text, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case continued:
			current.text += "\n" + line
			continued = goesOn(line)
		case isCommand:
			b.commands = append(b.commands, command{line: at, text: text})
			current = &b.commands[len(b.commands)-1]
			continued = goesOn(text)
		case strings.TrimSpace(line) == "":
		case current == nil:
			return fmt.Errorf("%d: output before any command", at)
		default:
			if n, err := fmt.Sscanf(line, "# exit status %d", &current.status); n == 1 && err == nil {
				break
			}
			current.prints = append(current.prints, line)
		}
	}
	if current == nil || continued {
		return fmt.Errorf("%d: a console block without a whole command", b.line)
	}
	return nil
}

func goesOn(line string) bool {
	for _, end := range []string{`\`, "|", "; do", ";"} {
		if strings.HasSuffix(line, end) {
			return true
		}
	}
	return false
}

// file returns the name and the text of a block that represents a file: its first line is a comment
// that contains only the name.
func (b *block) file() (name string, ok bool) {
	first, _, _ := strings.Cut(b.text, "\n")
	match := regexp.MustCompile(`^(?:#|--) ([a-z-]+\.(?:yaml|sql))$`).FindStringSubmatch(first)
	if match == nil {
		return "", false
	}
	return match[1], true
}

// headerLine matches a line with a message header; the CLI prints several headers in any order.
var headerLine = regexp.MustCompile(`^[A-Z][a-z]*-[A-Za-z-]+: `)

// says reports whether out contains the page's lines in that order, and otherwise returns the first
// missing one. Adjacent headers may be in any order.
func (c *command) says(out string) (missing string, ok bool) {
	lines := strings.Split(out, "\n")
	from, next := 0, 0 // where to search for this line, and for the next non-header line
	for i, want := range c.prints {
		pattern := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(squeeze(want)), "…", ".*"))
		if i == 0 || !headerLine.MatchString(want) || !headerLine.MatchString(c.prints[i-1]) {
			from = next
		}
		at := slices.IndexFunc(lines[from:], func(line string) bool { return pattern.MatchString(squeeze(line)) })
		if at < 0 {
			return want, false
		}
		next = max(next, from+at+1)
	}
	return "", true
}

func squeeze(line string) string { return strings.Join(strings.Fields(line), " ") }

// inlineCommands returns the commands that are named in the page's sentences.
func (p *page) inlineCommands(programs ...string) []string {
	var found []string
	for _, span := range regexp.MustCompile("`[^`]+`").FindAllString(strings.Join(p.prose, " "), -1) {
		text := strings.Trim(span, "`")
		for _, program := range programs {
			if strings.HasPrefix(text, program+" ") {
				found = append(found, text)
			}
		}
	}
	return found
}

// check requires that each command in the sentences is also in a block. Blocks that are not run
// here may only use the programs of elsewhere.
func (p *page) check(t *testing.T, elsewhere ...string) {
	t.Helper()
	var run []string
	for _, b := range p.blocks {
		for _, c := range b.commands {
			if b.info != "elsewhere" {
				run = append(run, squeeze(c.text))
				continue
			}
			program, _, _ := strings.Cut(c.text, " ")
			require.Contains(t, elsewhere, program, "%s:%d: this can be run by the test", p.name, c.line)
		}
	}
	require.NotEmpty(t, run)
	for _, text := range p.inlineCommands("nats", "mqtt-nats-bridge", "ingest") {
		known := false
		for _, c := range run {
			known = known || strings.Contains(c, text)
		}
		require.True(t, known, "%s names `%s` and runs nothing like it", p.name, text)
	}
}

func TestParsePage(t *testing.T) {
	t.Parallel()
	t.Run("blocks and commands are parsed", testBlocksAndCommandsAreParsed)
	t.Run("page that could hide a command is refused", testPageThatCouldHideACommandIsRefused)
}

func testBlocksAndCommandsAreParsed(t *testing.T) {
	t.Parallel()
	p, err := parsePage("page.md", strings.Join([]string{
		"Look: `nats stream ls`.", fence + "console", "$ nats stream ls", " TELEMETRY …  7 ", "", "$ nats \\", "  more", "# exit status 2", fence,
		fence + "yaml", "a: b", fence, fence + "console terminal", "$ nats top", fence,
	}, "\n"))
	require.NoError(t, err)
	require.Len(t, p.blocks, 3)
	require.Equal(t, []command{
		{line: 3, text: "nats stream ls", prints: []string{" TELEMETRY …  7 "}},
		{line: 6, text: "nats \\\n  more", status: 2},
	}, p.blocks[0].commands)
	require.Equal(t, "a: b", p.blocks[1].text)
	require.Equal(t, []string{"nats stream ls"}, p.inlineCommands("nats"))
	c := p.blocks[0].commands[0]
	_, ok := c.says("first\n│ TELEMETRY │   7 │\n")
	require.True(t, ok)
	missing, ok := c.says("7 TELEMETRY")
	require.False(t, ok)
	require.Equal(t, " TELEMETRY …  7 ", missing)
	c.prints = []string{"b", "a"}
	_, ok = c.says("a\nb\n")
	require.False(t, ok, "in this order")
	c.prints = []string{"a", "B-C: 1", "D-E: 2", "b"}
	_, ok = c.says("a\nD-E: 2\nB-C: 1\nb\n")
	require.True(t, ok, "but for headers")
	_, ok = c.says("a\nD-E: 2\nb\nB-C: 1\n")
	require.False(t, ok)
	_, ok = c.says("D-E: 2\na\nB-C: 1\nb\n")
	require.False(t, ok)
}

func testPageThatCouldHideACommandIsRefused(t *testing.T) {
	t.Parallel()
	for text, why := range map[string]string{
		fence + "sh\n$ nats stream ls\n" + fence:         `2: a block of "sh" is not known`,
		fence + "\n$ nats stream ls\n" + fence:           `2: a block of "" is not known`,
		fence + "text\nfirst\n$ nats ls\n" + fence:       "3: a command in a block of text is not run",
		fence + "console maybe\n$ nats ls\n" + fence:     `2: console "maybe" is not known`,
		fence + "console\nnats stream ls\n" + fence:      "2: output before any command",
		fence + "console\n" + fence:                      "2: a console block without a whole command",
		fence + "console\n$ nats stream \\\n" + fence:    "2: a console block without a whole command",
		"text\n" + fence + "console\n$ nats stream ls\n": "3: the block does not end",
	} {
		_, err := parsePage("page.md", text)
		require.ErrorContains(t, err, why)
	}
}
