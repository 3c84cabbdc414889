package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocComments requires that the doc comment of an exported identifier begins with its name.
func TestDocComments(t *testing.T) {
	t.Parallel()
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.ParseComments)
		require.NoError(t, err)
		for name, comment := range exportedComments(f) {
			if !beginsWith(comment.Text(), name.Name) {
				t.Errorf("%s: %s: the comment does not begin with the name: %s", files.Position(name.Pos()), name.Name, comment.Text())
			}
		}
	})
}

// exportedComments returns the doc comments of the exported functions, methods, types, constants and
// variables of a file. In a group a comment belongs to the first name after it.
func exportedComments(f *ast.File) map[*ast.Ident]*ast.CommentGroup {
	found := map[*ast.Ident]*ast.CommentGroup{}
	add := func(name *ast.Ident, comments ...*ast.CommentGroup) {
		i := slices.IndexFunc(comments, func(c *ast.CommentGroup) bool { return c != nil })
		if name.IsExported() && i >= 0 && comments[i].Text() != "" {
			found[name] = comments[i]
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			add(d.Name, d.Doc)
		case *ast.GenDecl:
			single := d.Doc
			if d.Lparen.IsValid() {
				single = nil
			}
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					add(spec.Name, spec.Doc, single)
				case *ast.ValueSpec:
					add(spec.Names[0], spec.Doc, single)
				}
			}
		}
	}
	return found
}

// beginsWith reports whether a comment begins with the name, after an article if there is one.
func beginsWith(comment, name string) bool {
	if strings.HasPrefix(comment, "Deprecated:") {
		return true
	}
	for _, article := range []string{"A ", "An ", "The "} {
		comment = strings.TrimPrefix(comment, article)
	}
	rest, ok := strings.CutPrefix(comment, name)
	return ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, ",") || strings.HasPrefix(rest, "\n"))
}
