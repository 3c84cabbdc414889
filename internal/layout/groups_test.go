package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImportGroups requires that every Go file imports the standard library first, then other
// modules, then this module, with a blank line between these groups and nowhere else.
func TestImportGroups(t *testing.T) {
	t.Parallel()
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.ImportsOnly|parser.ParseComments)
		require.NoError(t, err)
		if problem := ungrouped(files, f.Imports); problem != "" {
			t.Errorf("%s: %s; the order is: standard library, other modules, %s, with a blank line between them", path, problem, module)
		}
	})
}

// ungrouped describes an error in the order of imports, or returns "".
func ungrouped(files *token.FileSet, imports []*ast.ImportSpec) string {
	for i, next := range imports[min(1, len(imports)):] {
		last := imports[i]
		begin := next.Pos()
		if next.Doc != nil {
			begin = next.Doc.Pos()
		}
		blank := files.Position(begin).Line > files.Position(last.End()).Line+1
		switch a, b := importGroup(last), importGroup(next); {
		case b < a:
			return fmt.Sprintf("%s is after %s", next.Path.Value, last.Path.Value)
		case blank != (a != b):
			return fmt.Sprintf("a blank line is missing or too much before %s", next.Path.Value)
		}
	}
	return ""
}

func importGroup(i *ast.ImportSpec) int {
	path, _ := strconv.Unquote(i.Path.Value)
	switch root, _, _ := strings.Cut(path, "/"); {
	case root == module:
		return 2
	case strings.Contains(root, "."):
		return 1
	}
	return 0
}
