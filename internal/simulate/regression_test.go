package simulate

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Schedules that once found a defect; each file describes it.
func TestRegressions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			s, err := parse(string(text))
			require.NoError(t, err)
			home := t.TempDir()
			if v := run(t, s, sabotage{}, home, nil); v != nil {
				t.Fatalf("%v\n\n%s", v, retell(t, s, sabotage{}, home))
			}
		})
	}
}
