package schema

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSuggestions(t *testing.T) {
	t.Parallel()
	keys := []string{"keepalive", "url", "share", "manage"}
	for word, want := range map[string]string{"keepaliv": "keepalive", "KeepAlive": "keepalive", "ulr": "url", "mange": "manage", "colour": "", "x": "", strings.Repeat("u", 1000): ""} {
		require.Equal(t, want, nearest(word, keys), word)
	}
	require.Equal(t, 1, distance("ab", "ba"))
	require.Equal(t, 3, distance("", "abc"))
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, []byte("x"), 0o600))
	_, err := readFile(name + "/below")
	require.EqualError(t, err, "cannot be read: not a directory")
}
