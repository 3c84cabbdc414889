package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
)

// terminal is a program on a pseudo-terminal that script(1) provides.
type terminal struct {
	peers.Log

	t        *testing.T
	cmd      *exec.Cmd
	keyboard io.WriteCloser
	pidFile  string
	ended    chan error
}

// onTerminal runs the program and prints the terminal's mode before and after it. The shell ignores
// the signals of the keyboard.
func onTerminal(t *testing.T, args string) *terminal {
	t.Helper()
	if _, err := exec.LookPath("script"); err != nil {
		require.NotEqual(t, "1", os.Getenv("BRIDGE_REQUIRE_PEERS"), err)
		t.Skip(err)
	}
	s := &terminal{t: t, pidFile: filepath.Join(t.TempDir(), "pid"), ended: make(chan error, 1)}
	example := peers.Command(t)
	line := fmt.Sprintf(`trap : INT QUIT HUP; stty rows 24 cols 80; echo "before $(stty -g)"; sh -c 'echo $$ >%s; exec %s %s'; echo "exit $?"; echo "after $(stty -g)"`,
		s.pidFile, example.Path, args)
	s.cmd = exec.Command("script", "-qec", line, "/dev/null")
	s.cmd.Dir, s.cmd.Env = example.Dir, append(example.Env, "TERM=xterm", "SHELL=/bin/sh")
	s.cmd.Stdout = s
	var err error
	s.keyboard, err = s.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	go func() { s.ended <- s.cmd.Wait() }()
	t.Cleanup(func() { _ = s.cmd.Process.Kill() }) // its terminal ends with it
	return s
}

func (s *terminal) press(keys string) {
	s.t.Helper()
	_, err := io.WriteString(s.keyboard, keys)
	require.NoError(s.t, err)
}

func (s *terminal) signal(number syscall.Signal) {
	s.t.Helper()
	text, err := os.ReadFile(s.pidFile)
	require.NoError(s.t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(s.t, err)
	require.NoError(s.t, syscall.Kill(pid, number))
}

func (s *terminal) shows(text string) {
	s.t.Helper()
	s.Await(s.t, 0, text)
}

// end waits for the program and returns its exit code. The terminal's mode must be restored.
func (s *terminal) end() (code string) {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		require.Fail(s.t, "it does not end", "%q", s.Tail(1000))
	}
	mode := map[string]string{}
	for line := range strings.Lines(s.String()) {
		for _, name := range []string{"before ", "exit ", "after "} {
			if _, value, ok := strings.Cut(line, name); ok && !strings.Contains(value, " ") {
				mode[name] = strings.TrimSpace(value)
			}
		}
	}
	require.NotEmpty(s.t, mode["before "], "%q", s)
	require.Equal(s.t, mode["before "], mode["after "])
	require.Contains(s.t, s.String(), "\x1b[?25h\x1b[?7h\x1b[?1049l", "the cursor and the former screen are back")
	return mode["exit "]
}

// serveView serves an admin endpoint at a given address.
func serveView(t *testing.T, address string) *http.Server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	s := &http.Server{Addr: l.Addr().String(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"program":"test bridge","ready":true,"tables":[{"title":"Devices","columns":[{"title":"Device"}],`+
			`"rows":[[{"text":"\u001b]0;harmed\u0007 温度"}]]}]}`)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestTopTerminalRestore(t *testing.T) {
	t.Parallel()
	server := serveView(t, "127.0.0.1:0")
	for name, end := range map[string]func(*terminal){
		"q":       func(s *terminal) { s.press("q") },
		"Ctrl-C":  func(s *terminal) { s.press("\x03") },
		"Ctrl-\\": func(s *terminal) { s.press("\x1c") },
		"SIGTERM": func(s *terminal) { s.signal(syscall.SIGTERM) },
		"SIGHUP":  func(s *terminal) { s.signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := onTerminal(t, "top --admin "+server.Addr)
			s.shows("?]0;harmed? 温度")
			end(s)
			require.Equal(t, "0", s.end(), "%q", s)
		})
	}
}

func TestTopReconnect(t *testing.T) {
	t.Parallel()
	server := serveView(t, testrun.Address(t).String())
	s := onTerminal(t, "top --admin http://"+server.Addr+"/")
	s.shows("ready")
	require.NoError(t, server.Close())
	s.shows("NO ANSWER since")
	s.shows("connection refused")
	lost := len(s.String())
	serveView(t, server.Addr)
	require.Eventually(t, func() bool { return strings.Contains(s.String()[lost:], "ready") }, 30*time.Second, 10*time.Millisecond)
	s.press("q")
	require.Equal(t, "0", s.end())
}

func TestTopWithoutATerminal(t *testing.T) {
	t.Parallel()
	server := serveView(t, "127.0.0.1:0")
	got := peers.Run(t, "top", "--admin", server.Addr)
	require.Zero(t, got.Code)
	require.Equal(t, "test bridge: ready |  on  | 00:00:00 UTC\nDEVICES\n?]0;harmed? 温度\n", got.Out)
	got = peers.Run(t, "top", "--set", "admin.listen="+server.Addr)
	require.Zero(t, got.Code, "the configuration has the address: %s", got.Err)
}
