package layout

import (
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// phrases must not be in Go strings, comments, Markdown and deployment files: each has a standard
// term. A line break counts as a space.
var phrases = map[string]*regexp.Regexp{
	"counted out (dropped)":                                   regexp.MustCompile(`(?i)\bcounted out\b`),
	"is away (is unreachable)":                                regexp.MustCompile(`(?i)\b(is|are|was|were|be) away\b`),
	"under way (in flight, in progress)":                      regexp.MustCompile(`(?i)\bunder way\b`),
	"for ever (forever, indefinitely)":                        regexp.MustCompile(`(?i)\bfor ever\b`),
	"somebody else's (externally managed, another's)":         regexp.MustCompile(`(?i)\bsomebody else's\b`),
	"whoever (a user who, anyone who)":                        regexp.MustCompile(`(?i)\bwhoever\b`),
	"mend (fix)":                                              regexp.MustCompile(`(?i)\bmend(s|ed|ing)?\b`),
	"gives its word (settles)":                                regexp.MustCompile(`(?i)\b(gives?|gave) (its|his) word\b`),
	"see that (make sure that)":                               regexp.MustCompile(`\bsee that\b`),
	"What is no X (Anything that is not X)":                   regexp.MustCompile(`(?i)\bwhat is no\b`),
	"a second, a message as a rate (per second, per message)": regexp.MustCompile(`(?i)(\d+(\.\d+)?|(messages|bytes|rows|requests|times|lines)\b),? a second\b|\b(µs|allocations|CPU|ns) a message\b`),
	"meanwhile (until then, during that time)":                regexp.MustCompile(`(?i)\bmeanwhile\b`),
	"patience (timeout)":                                      regexp.MustCompile(`(?i)patience\b`),
	"who may (a user with permission)":                        regexp.MustCompile(`\b(users?|Who|those) who may\b|(^|[.:;] )Who may\b`),
	"tells whether (reports whether)":                         regexp.MustCompile(`\btells (whether|how|which|what|the|a)\b`),
	"at once (immediately, together)":                         regexp.MustCompile(`(?i)\bat once\b`),
	"stands (is, remains)":                                    regexp.MustCompile(`(?i)\bstands (?:at|behind|here|there|once|beside|alone)\b|\bstands[.,;:]|\bas it stands\b`),
	"tells (reports, distinguishes)":                          regexp.MustCompile(`(?i)\btells\b`),
	"looks to (checks)":                                       regexp.MustCompile(`\blooks to the\b`),
	"judge (validate, check)":                                 regexp.MustCompile(`(?i)\b(is|are|was|were|be|messages) judged\b|\bjudges? (again|each|the (topic|messages?))\b`),
	"what becomes of, would become of (how it is handled)":    regexp.MustCompile(`(?i)\bwould become of\b`),
	"does not serve (is not valid, does not work)":            regexp.MustCompile(`(?i)\bdoes not serve\b|\blast known state serves\b`),
	"does not show (could not be read, does not report)":      regexp.MustCompile(`(?i)\b(does|do) not show\b`),
	"one a lane (one per lane)":                               regexp.MustCompile(`(?i)\bone an? (lane|message|device|replica|partition)\b`),
	"once a second (once per second)":                         regexp.MustCompile(`(?i)\b(once|twice) a second\b`),
	"given back (nak'ed, redelivered, released)":              regexp.MustCompile(`(?i)\bgiven back\b`),
	"in hand (in progress)":                                   regexp.MustCompile(`(?i)\bin hand\b`),
	"gone wild (too many)":                                    regexp.MustCompile(`(?i)\bgone wild\b`),
	"nobody pulls (no active consumer)":                       regexp.MustCompile(`(?i)\b(nobody pulls|who pulls)\b`),
	"in vain (is lost, without success)":                      regexp.MustCompile(`(?i)\backnowledged in vain\b`),
	"given up for good (closed permanently)":                  regexp.MustCompile(`(?i)\b(give|given|gave) (it |the connection )?up for good\b`),
}

// allowed maps a file and a phrase to the reason for a legitimate use.
var allowed = map[string]map[string]string{
	"CHANGELOG.md": {
		"under way (in flight, in progress)":                 "quotes former log messages",
		"does not show (could not be read, does not report)": "quotes former messages",
	},
	"internal/layout/language_test.go": {"*": "names them"},
	"internal/peers/proxy.go":          {"mend (fix)": "documents the method Mend"},
	"internal/simulate/rest.go":        {"mend (fix)": "documents the method mend"},
}

// passage is a comment or a string of a Go file, a paragraph of a Markdown page, or a line of a
// deployment file.
type passage struct {
	line int
	text string
}

// TestLanguage keeps the banned phrases out of all published text.
func TestLanguage(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	walk(t, func(path string) {
		name := filepath.ToSlash(strings.TrimPrefix(path, "../../"))
		for _, p := range passages(t, path) {
			for phrase, r := range phrases {
				for _, at := range r.FindAllStringIndex(p.text, -1) {
					why := allowed[name]
					if why[phrase] != "" || why["*"] != "" {
						used[name] = true
						continue
					}
					t.Errorf("%s:%d: %s: …%s…", name, p.line, phrase, p.text[max(at[0]-60, 0):min(at[1]+60, len(p.text))])
				}
			}
		}
	})
	for name := range allowed {
		require.True(t, used[name], "%s needs no exception any more", name)
	}
}

func passages(t *testing.T, path string) []passage {
	t.Helper()
	switch filepath.Ext(path) {
	case ".go":
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return goPassages(text)
	case ".md":
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return paragraphs(string(text))
	case ".json", ".yml", ".yaml", ".service", ".conf", ".toml":
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return lines(string(text))
	}
	return nil
}

// paragraphs returns the parts of a page between empty lines, each on one line.
func paragraphs(page string) (all []passage) {
	line := 1
	for _, p := range strings.Split(page, "\n\n") {
		all = append(all, passage{line, strings.Join(strings.Fields(p), " ")})
		line += strings.Count(p, "\n") + 2
	}
	return all
}

// lines returns the lines of a file that is neither Go nor Markdown.
func lines(text string) (all []passage) {
	for i, l := range strings.Split(text, "\n") {
		all = append(all, passage{i + 1, strings.TrimSpace(l)})
	}
	return all
}

// goPassages returns the strings and comments of a file; consecutive comment lines are one passage.
func goPassages(text []byte) (all []passage) {
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, scanner.ScanComments)
	last, comment := -1, 0
	for {
		pos, tok, lit := s.Scan()
		line := file.Line(pos)
		switch tok {
		case token.EOF:
			return all
		case token.STRING:
			lit, _ = strconv.Unquote(lit)
			all = append(all, passage{line, strings.Join(strings.Fields(lit), " ")})
		case token.COMMENT:
			words := strings.Join(strings.Fields(strings.Trim(lit, "/*")), " ")
			if line == last+1 {
				all[comment].text += " " + words
			} else {
				comment = len(all)
				all = append(all, passage{line, words})
			}
			last = line + strings.Count(lit, "\n")
		}
	}
}
