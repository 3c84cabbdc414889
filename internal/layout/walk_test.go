package layout

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// walk visits every file of the repository, but no hidden directories.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.IsDir():
			visit(path)
		case strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2: // not "..", the root
			return filepath.SkipDir
		}
		return nil
	}))
}
