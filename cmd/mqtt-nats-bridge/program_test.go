package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/jetstream/embedded"
)

func startNATS(t *testing.T) *embedded.Server {
	t.Helper()
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// daemonProcess is a running bridge.
type daemonProcess struct {
	cmd  *exec.Cmd
	t    *testing.T
	out  *bufio.Scanner
	seen strings.Builder
}

func start(t *testing.T, args ...string) *daemonProcess {
	t.Helper()
	cmd := peers.Command(t, args...)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stderr = write
	require.NoError(t, cmd.Start())
	require.NoError(t, write.Close())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // no effect if it has ended
		_ = cmd.Wait()
		_ = read.Close()
	})
	return &daemonProcess{cmd: cmd, t: t, out: bufio.NewScanner(read)}
}

// waitLog returns the first line of the log that contains all of texts, including lines that have
// been read already.
func (d *daemonProcess) waitLog(texts ...string) string {
	d.t.Helper()
	for line := range strings.Lines(d.seen.String()) {
		if containsAll(line, texts) {
			return line
		}
	}
	for d.out.Scan() {
		line := d.out.Text()
		fmt.Fprintln(&d.seen, line)
		if containsAll(line, texts) {
			return line
		}
	}
	require.Failf(d.t, "the log ended", "before a line with %q:\n%s", texts, d.seen.String())
	return ""
}

func containsAll(line string, texts []string) bool {
	for _, text := range texts {
		if !strings.Contains(line, text) {
			return false
		}
	}
	return true
}

// end waits for the process and returns its exit code and the whole log.
func (d *daemonProcess) end() (int, string) {
	d.t.Helper()
	for d.out.Scan() {
		fmt.Fprintln(&d.seen, d.out.Text())
	}
	err := d.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) && !errors.Is(err, io.EOF) {
		require.NoError(d.t, err)
	}
	return d.cmd.ProcessState.ExitCode(), d.seen.String()
}
