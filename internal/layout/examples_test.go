package layout

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// exampled are the packages for external consumers. Each of their entry points has an Example,
// except those listed with a reason.
var exampled = map[string]map[string]string{
	"subjects": {
		"Attestation": "data: see ExamplePrefix_Cut",
		"Route":       "data: see ExampleSet",
	},
	"jetstream/consume": {
		"Options": "data: see ExampleWorkers",
		"Counts":  "data, for metrics",
		"Handler": "a function: see ExampleWorkers",
	},
}

// Each exported function, constructor and type has an Example that runs.
func TestExamples(t *testing.T) {
	t.Parallel()
	for dir, exceptions := range exampled {
		p := documentation(t, dir)
		missing := func(name string, examples []*doc.Example) {
			if exceptions[name] != "" {
				require.Empty(t, examples, "%s.%s needs no exception any more", dir, name)
				delete(exceptions, name)
				return
			}
			if !slices.ContainsFunc(examples, func(e *doc.Example) bool { return e.Output != "" }) {
				t.Errorf("%s.%s has no Example with an output", dir, name)
			}
		}
		for _, f := range p.Funcs {
			missing(f.Name, f.Examples)
		}
		for _, typ := range p.Types {
			all := typ.Examples
			for _, f := range typ.Funcs {
				missing(f.Name, f.Examples)
				all = append(all, f.Examples...)
			}
			for _, m := range typ.Methods {
				all = append(all, m.Examples...)
			}
			missing(typ.Name, all)
		}
		require.Empty(t, exceptions, "%s: exceptions for what is not there", dir)
	}
}

// documentation reads a package with its tests.
func documentation(t *testing.T, dir string) *doc.Package {
	t.Helper()
	files := token.NewFileSet()
	var parsed []*ast.File
	names, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		f, err := parser.ParseFile(files, name, text, parser.ParseComments)
		require.NoError(t, err)
		parsed = append(parsed, f)
	}
	p, err := doc.NewFromFiles(files, parsed, module+"/"+dir)
	require.NoError(t, err)
	return p
}
