package peers

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"
)

// Command is a program of this module in a directory of its own, without the configuration of the user who runs
// the test.
func Command(t testing.TB, path string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = t.TempDir(), neutralEnv(os.Environ())
	return cmd
}

// Finish runs a command to its end and returns its exit code and what it printed.
func Finish(t testing.TB, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), problems.String()
}
