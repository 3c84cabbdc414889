// Package golden compares the output of a test with a file. Only tests import it: it adds the flag
// -update to their binary.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// Update reports whether files are written, with -update.
func Update() bool { return *update }

// Require requires that got is the content of the file at path. With -update it writes the file.
func Require(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "run the test with -update and check the diff")
}
