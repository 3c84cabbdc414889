package peers

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"
)

// Command returns a command that runs the program in the directory of the test, with version
// 1.2.3-test. It runs in an empty directory, without the configuration of the user's environment.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	path := build(t, ".", "-ldflags=-X main.version=1.2.3-test -X main.commit=0123abcd -X main.date=2026-01-02T03:04:05Z")
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = t.TempDir(), neutralEnv(os.Environ())
	return cmd
}

// Outcome contains the exit code and the output of a command.
type Outcome struct {
	Code     int
	Out, Err string
}

// Run runs a [Command] and waits for its end.
func Run(t testing.TB, args ...string) Outcome {
	t.Helper()
	return Finish(t, Command(t, args...))
}

// Finish runs a command and waits for its end.
func Finish(t testing.TB, cmd *exec.Cmd) Outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
