package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Alerts on warnings and errors use component, as /readyz does. It directly follows the level,
// where this test can find it.
func TestLogComponent(t *testing.T) {
	t.Parallel()
	levels := 0
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		named := map[*ast.CallExpr]bool{}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if of, field := method(call); field == "Str" && literal(call.Args[0]) == `"component"` {
					if level, ok := of.(*ast.CallExpr); ok {
						named[level] = true
					}
				}
				if begins(call) {
					levels++
					if !named[call] {
						t.Errorf("%s: no component", files.Position(call.Pos()))
					}
				}
			}
			return true
		})
	})
	require.GreaterOrEqual(t, levels, 40, "the log lines are not found any more")
}

// begins reports whether the call begins a warning or an error of a logger.
func begins(call *ast.CallExpr) bool {
	of, level := method(call)
	if level != "WithLevel" && (level != "Warn" && level != "Error" || len(call.Args) > 0) {
		return false
	}
	switch logger := of.(type) {
	case *ast.Ident:
		return strings.EqualFold(logger.Name, "log")
	case *ast.SelectorExpr:
		return strings.EqualFold(logger.Sel.Name, "log")
	}
	return level == "Warn"
}

// method returns the name of the called method, and its receiver.
func method(call *ast.CallExpr) (of ast.Expr, name string) {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil, ""
	}
	return selector.X, selector.Sel.Name
}

func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok {
		return l.Value
	}
	return ""
}
