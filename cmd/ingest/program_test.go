package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mqtt-nats-bridge/internal/peers"

	"github.com/stretchr/testify/require"
)

// update writes the golden files anew: go test ./cmd/ingest -update
var update = flag.Bool("update", false, "write the golden files")

// binary is the program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if binary, err = peers.Executable(".", "-ldflags=-X main.version=1.2.3-test -X main.commit=0123abcd -X main.date=2026-01-02T03:04:05Z"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return peers.Command(t, binary, args...)
}

// outcome is what a command left.
type outcome struct {
	code     int
	out, err string
}

func run(t *testing.T, args ...string) outcome {
	t.Helper()
	return finish(t, command(t, args...))
}

func finish(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	code, out, problems := peers.Finish(t, cmd)
	return outcome{code, out, problems}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "run go test ./cmd/ingest -update and read the difference")
}
