package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxName is the longest name of a test with its case, in bytes.
const maxName = 60

// sentence finds the words that turn a name into a sentence. A test is named for its subject, and a
// case states a fact about it.
var sentence = regexp.MustCompile(`^Test(An?|The|What|Where|When|Nothing|Every|All|Each)[A-Z][a-z]|` +
	`[a-z0-9](Is|Are|Was|Were|Be|Does|Do|Has|Have|May|Must|Can|Cannot|Never|Needs|Keeps|Takes|Goes|Ends|Gets|Comes|Says|Makes|Means)([A-Z]|$)`)

// TestNames bounds the names of tests and of their literal cases, and refuses names that are
// sentences. The pages may name only tests and cases that exist. A name that ends in "…" or follows
// -run is the beginning of at least one.
func TestNames(t *testing.T) {
	t.Parallel()
	cases := map[string][]string{} // of each test
	pages := map[string]string{}
	walk(t, func(path string) {
		switch {
		case strings.HasSuffix(path, "_test.go"):
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && tested.MatchString(f.Name.Name) {
					name := f.Name.Name
					cases[name] = append(cases[name], literalCases(f)...)
					if strings.HasPrefix(name, "Test") && sentence.MatchString(name) {
						t.Errorf("%s: %s is a sentence; name it for its subject; what is true of it is a case", path, name)
					}
				}
			}
		case filepath.Ext(path) == ".md" && filepath.Base(path) != "CHANGELOG.md":
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			pages[path] = string(text)
		}
	})
	for name, all := range cases {
		for _, c := range append(all, "") {
			if full := strings.TrimSuffix(name+"/"+c, "/"); len(full) > maxName {
				t.Errorf("%s has %d bytes, more than %d", full, len(full), maxName)
			}
		}
	}
	for path, text := range pages {
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			if !exists(cases, m[2], strings.Trim(m[3], "/."), m[1]+m[4] != "") {
				t.Errorf("%s names %s%s, which does not exist", path, m[2], m[3])
			}
		}
	}
}

var (
	tested = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)[A-Z_]`)
	quoted = regexp.MustCompile("(-run '?\\^?)?\\b((?:Test|Fuzz)[A-Z]\\w+)(/[^\\s`',;)…]+)?(…?)")
)

// exists reports whether a test has this name, or begins with it if begins is set. If the test has
// literal cases, the case must be one of them.
func exists(cases map[string][]string, name, of string, begins bool) bool {
	if of == "" && begins {
		for n := range cases {
			if strings.HasPrefix(n, name) {
				return true
			}
		}
		return false
	}
	all, ok := cases[name]
	return ok && (of == "" || len(all) == 0 || slices.ContainsFunc(all, func(c string) bool {
		c = strings.ReplaceAll(c, " ", "_")
		return of == c || strings.HasPrefix(of, c+"/") || begins && strings.HasPrefix(c, of)
	}))
}

// literalCases returns the names of the cases that f runs by a literal.
func literalCases(f *ast.FuncDecl) []string {
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		run, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || run.Sel.Name != "Run" {
			return true
		}
		if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			name, _ := strconv.Unquote(lit.Value)
			names = append(names, name)
		}
		return true
	})
	return names
}
