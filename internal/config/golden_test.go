package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
)

func TestErrorLines(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/errors.*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			_, err := Load(Sources{File: file})
			var errs *Errors
			require.ErrorAs(t, err, &errs)
			require.NotContains(t, err.Error(), "hunter2", "a secret in an error")
			golden.Require(t, strings.TrimSuffix(file, ".yaml")+".golden", err.Error()+"\n")
		})
	}
}
