package measure

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// TestMain is also the main function of the children: Start runs the test binary itself.
func TestMain(m *testing.M) {
	if os.Getenv("MEASURE_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "json":
		fmt.Println(`{"messages": 7}`)
	case "failure":
		fmt.Fprintln(os.Stderr, "no disk")
		os.Exit(3)
	case "silent":
		for ; ; time.Sleep(time.Millisecond) {
			fmt.Fprintln(os.Stderr, "still starting")
		}
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		select {}
	}
}

func start(t *testing.T, args ...string) *Process {
	t.Helper()
	p, err := Start(t.Context(), []string{"MEASURE_TEST_CHILD=1"}, args...)
	require.NoError(t, err)
	return p
}

func TestProcess(t *testing.T) {
	t.Parallel()
	t.Run("ReadJSON decodes the line and closes the pipe", func(t *testing.T) {
		t.Parallel()
		p := start(t, "json")
		var r struct{ Messages int }
		require.NoError(t, ReadJSON(p, &r))
		require.Equal(t, 7, r.Messages)
		require.ErrorIs(t, p.pipe.Close(), os.ErrClosed)
	})
	t.Run("ReadJSON reports a failure and its cause", func(t *testing.T) {
		t.Parallel()
		require.EqualError(t, ReadJSON(start(t, "failure"), new(int)), "failure: exit status 3: no disk")
	})
	t.Run("ReadLine times out while the child writes", func(t *testing.T) {
		t.Parallel()
		p := start(t, "silent")
		require.Eventually(t, func() bool { return p.LogTail() != "" }, testrun.Timeout, time.Millisecond)
		_, err := p.ReadLine(0)
		require.ErrorContains(t, err, "silent: no line within 0s: still starting")
		require.NoError(t, p.Stop())
		require.ErrorIs(t, p.pipe.Close(), os.ErrClosed)
	})
	t.Run("Stop kills a child that ignores SIGTERM", func(t *testing.T) {
		t.Parallel()
		p := start(t, "deaf")
		line, err := p.ReadLine(testrun.Timeout)
		require.NoError(t, err)
		require.Equal(t, "ready", line)
		require.ErrorContains(t, p.stop(time.Millisecond), "stop deaf: signal terminated did not end it")
		select {
		case <-p.Ended():
		default:
			t.Fatal("Stop returned before the child had ended")
		}
		require.ErrorIs(t, p.pipe.Close(), os.ErrClosed)
	})
}
