package doctest

import (
	"bufio"
	"fmt"
	"io"
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

// session is the shell that runs a page's commands.
type session struct {
	t *testing.T
	// Dir is the initial directory, which is empty.
	Dir string
	// replace maps the page's addresses to the test's.
	replace *strings.Replacer

	in    io.Writer
	lines chan string // lines of output; closed at the end
}

// endMark begins the line after a command's output.
const endMark = "-- end of the command, exit status "

// newSession starts bash in an empty directory and with an empty home, with this module's programs
// on its PATH. programs are other programs that the page needs. addresses are pairs: the page's,
// the test's.
func newSession(t *testing.T, addresses []string, programs ...string) *session {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"mqtt-nats-bridge", "ingest"} {
		require.NoError(t, os.Symlink(peers.Program(t, name), filepath.Join(bin, name)))
	}
	for _, name := range append(programs, "bash", "script") {
		needProgram(t, name)
	}
	s := &session{t: t, Dir: t.TempDir(), replace: strings.NewReplacer(addresses...), lines: make(chan string)}
	home := t.TempDir()
	cmd := exec.Command("bash", "--norc", "--noprofile")
	cmd.Dir = s.Dir
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "NATS_") && !strings.HasPrefix(name, "BRIDGE_") && !strings.HasPrefix(name, "INGEST_") && name != "MQTT_URL" {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home, "XDG_CONFIG_HOME="+home, "TERM=dumb", "TZ=UTC", "LC_ALL=C.UTF-8")
	// The shell has its own process group, so that a hanging command ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	s.in = in
	out, write, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = write, write
	require.NoError(t, cmd.Start())
	require.NoError(t, write.Close())
	go func() {
		defer close(s.lines)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if line != "" {
				s.lines <- strings.TrimRight(line, "\r\n")
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		for range s.lines {
			continue
		}
		_ = cmd.Wait() // killed
		_ = out.Close()
	})
	return s
}

// needProgram skips the test if a program is missing, or fails if it is required.
func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("BRIDGE_REQUIRE_PEERS") == "1" {
			t.Fatalf("%v, and BRIDGE_REQUIRE_PEERS=1 demands it", err)
		}
		t.Skipf("%v; install it, or set BRIDGE_REQUIRE_PEERS=1 to make this a failure", err)
	}
}

// run runs one command and returns its output and its exit status.
func (s *session) run(text string, terminal bool) (string, int) {
	s.t.Helper()
	text = s.replace.Replace(text)
	if terminal {
		text = "script -qec " + quote(text) + " /dev/null"
	}
	// Braces keep variables and the directory in the session. Standard input is empty, because the
	// session's commands come from there.
	_, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null\nprintf '\\n%s%%d\\n' $?\n", text, endMark)
	require.NoError(s.t, err)
	var out strings.Builder
	deadline := time.After(testrun.Timeout)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the shell ended with:\n$ %s\n%s", text, out.String())
			}
			if status, ok := strings.CutPrefix(line, endMark); ok {
				n, err := strconv.Atoi(status)
				require.NoError(s.t, err)
				return out.String(), n
			}
			out.WriteString(line + "\n")
		case <-deadline:
			s.t.Fatalf("it does not end:\n$ %s\n%s", text, out.String())
		}
	}
}

// play runs the whole page. A hook runs around the commands that begin with its key; the longest
// matching key counts. Hooks do the steps that a page assumes or leaves out.
func (s *session) play(p *page, hooks map[string]hook) {
	s.t.Helper()
	used := map[string]bool{}
	for _, b := range p.blocks {
		if name, ok := b.file(); ok {
			text := s.replace.Replace(b.text) + "\n"
			require.NoError(s.t, os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600))
		}
		for _, c := range b.commands {
			if b.info == "elsewhere" {
				continue
			}
			longest := ""
			for beginning := range hooks {
				if strings.HasPrefix(c.text, beginning) && len(beginning) > len(longest) {
					longest = beginning
				}
			}
			around := hooks[longest] // nil if no key matches
			used[longest] = true
			if around.before != nil {
				around.before()
			}
			out, status := s.run(c.text, b.info == "terminal")
			// Report all errors of a page together.
			if status != c.status {
				s.t.Errorf("%s:%d: exit status %d, the page says %d\n$ %s\n%s", p.name, c.line, status, c.status, c.text, out)
			}
			if missing, ok := c.says(out); !ok {
				s.t.Errorf("%s:%d: no %q in what this printed\n$ %s\n%s", p.name, c.line, missing, c.text, out)
			}
			if around.after != nil {
				around.after()
			}
		}
	}
	for beginning := range hooks {
		require.True(s.t, used[beginning], "%s does not run %q any more", p.name, beginning)
	}
}

type hook struct{ before, after func() }

// quote quotes text as one bash word.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func TestSessionState(t *testing.T) {
	t.Parallel()
	s := newSession(t, []string{"nats://127.0.0.1:4222", "nats://elsewhere:1"})
	out, status := s.run("url=nats://127.0.0.1:4222; cd /; false", false)
	require.Equal(t, 1, status)
	require.Empty(t, strings.TrimSpace(out))
	out, status = s.run(`printf "%s in %s\n" $url $PWD \
	  && echo "it's"; cat`, false)
	require.Zero(t, status)
	require.Equal(t, "nats://elsewhere:1 in /\nit's", strings.TrimSpace(out))
	out, _ = s.run(`test -t 1 && echo "it's a terminal"`, true)
	require.Contains(t, out, "it's a terminal")
	_, status = s.run("test -t 1", false)
	require.Equal(t, 1, status)
	_, status = s.run("mqtt-nats-bridge version", false)
	require.Zero(t, status)
}
