package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/schema"
)

// TestReference compares the tables of the docs with the struct tags.
func TestReference(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]struct {
		program       schema.Program
		configuration any
	}{
		"configuration.md":        {BridgeProgram(), &Config{}},
		"ingest-configuration.md": {IngestProgram(), &Ingest{}},
	} {
		name = filepath.Join("..", "..", "docs", name)
		was, err := os.ReadFile(name)
		require.NoError(t, err)
		is, err := schema.Reference(string(was), page.program, page.configuration)
		require.NoError(t, err)
		golden.Require(t, name, is)
	}
}
