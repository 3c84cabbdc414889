package child_test

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/testrun"
)

// start starts a shell script and kills it at the end of the test.
func start(t *testing.T, script string) *child.Process {
	t.Helper()
	p, err := child.Start(exec.Command("sh", "-c", script))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = p.Signal(syscall.SIGKILL)
		_ = p.Wait()
	})
	return p
}

func TestStart(t *testing.T) {
	t.Parallel()
	_, err := child.Start(exec.Command(t.TempDir() + "/missing"))
	require.ErrorIs(t, err, syscall.ENOENT)
}

func TestWait(t *testing.T) {
	t.Parallel()
	p := start(t, "exit 3")
	for range 2 { // also after the end
		var exit *exec.ExitError
		require.ErrorAs(t, p.Wait(), &exit)
		require.Equal(t, 3, exit.ExitCode())
	}
	require.Equal(t, 3, p.State().ExitCode())
	<-p.Ended()
}

func TestSignal(t *testing.T) {
	t.Parallel()
	t.Run("reaches the process", func(t *testing.T) {
		t.Parallel()
		p := start(t, "exec sleep 1000")
		require.NoError(t, p.Signal(syscall.SIGKILL))
		require.Equal(t, syscall.SIGKILL, p.State().Sys().(syscall.WaitStatus).Signal())
	})
	t.Run("after the end, it names the exit code", func(t *testing.T) {
		t.Parallel()
		p := start(t, "exit 3")
		<-p.Ended()
		require.EqualError(t, p.Signal(syscall.SIGTERM), "it ended with exit status 3")
	})
}

func TestEnd(t *testing.T) {
	t.Parallel()
	t.Run("ends a running process", func(t *testing.T) {
		t.Parallel()
		p := start(t, "exec sleep 1000")
		require.NoError(t, p.End(syscall.SIGKILL, testrun.Timeout))
		require.False(t, p.State().Exited())
	})
	t.Run("a process that has ended is no error", func(t *testing.T) {
		t.Parallel()
		p := start(t, "exit 3")
		<-p.Ended()
		require.NoError(t, p.End(syscall.SIGTERM, testrun.Timeout))
	})
	t.Run("reports a process that ignores the signal", func(t *testing.T) {
		t.Parallel()
		p := start(t, "exec sleep 1000")
		// SIGCONT is ignored by default.
		require.EqualError(t, p.End(syscall.SIGCONT, time.Millisecond), "signal continued did not end it within 1ms")
		select {
		case <-p.Ended():
			t.Fatal("the process has ended")
		default:
		}
	})
}

func TestLog(t *testing.T) {
	t.Parallel()
	var l child.Log
	_, changed := l.Find(0, "two")
	fmt.Fprint(&l, "one two ")
	<-changed
	end, changed := l.Find(0, "two")
	require.Nil(t, changed)
	require.Equal(t, len("one two"), end)
	_, changed = l.Find(end, "two")
	require.NotNil(t, changed, "the one before the offset does not count")
	fmt.Fprint(&l, "two")
	<-changed
	end, _ = l.Find(end, "two")
	require.Equal(t, len(l.String()), end)
	require.Equal(t, "o two", l.Tail(5))
}
