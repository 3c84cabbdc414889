package layout

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxName is the longest name of a test, in bytes.
const maxName = 60

// TestNames bounds the names of tests, and the pages name only tests that exist: a name
// that ends in "…" or follows -run is the beginning of one or more.
func TestNames(t *testing.T) {
	t.Parallel()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w+)\(`)
	quoted := regexp.MustCompile(`(-run '?)?\b((?:Test|Fuzz)[A-Z]\w+)(…?)`)
	var names []string
	type mention struct {
		page, name string
		begins     bool
	}
	var mentions []mention
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
				return filepath.SkipDir
			}
			return err
		}
		test := strings.HasSuffix(path, "_test.go")
		if !test && (filepath.Ext(path) != ".md" || d.Name() == "CHANGELOG.md") {
			return nil
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		if !test {
			for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
				mentions = append(mentions, mention{path, m[2], m[1]+m[3] != ""})
			}
			return nil
		}
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
			if len(m[1]) > maxName {
				t.Errorf("%s: %s has %d bytes, more than %d", path, m[1], len(m[1]), maxName)
			}
		}
		return nil
	}))
	for _, m := range mentions {
		if !slices.ContainsFunc(names, func(n string) bool { return n == m.name || m.begins && strings.HasPrefix(n, m.name) }) {
			t.Errorf("%s names %s, which does not exist", m.page, m.name)
		}
	}
}
