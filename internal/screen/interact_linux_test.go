package screen

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pseudoTerminal is both ends of a terminal and the text written by the program.
type pseudoTerminal struct {
	keyboard *os.File
	program  *os.File

	mu   sync.Mutex
	text bytes.Buffer
	read sync.WaitGroup
}

func newPseudoTerminal(t *testing.T) *pseudoTerminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	fd := int(keyboard.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	p := &pseudoTerminal{keyboard: keyboard, program: program}
	p.read.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buffer)
			p.mu.Lock()
			p.text.Write(buffer[:n])
			p.mu.Unlock()
			if err != nil { // the program's end of the terminal is closed
				return
			}
		}
	})
	return p
}

// close returns all output.
func (p *pseudoTerminal) close(t *testing.T) string {
	t.Helper()
	// Only the end of the input ends the goroutine that reads keys.
	_, err := p.keyboard.WriteString("\n\x04")
	require.NoError(t, err)
	require.NoError(t, p.program.Close())
	p.read.Wait()
	require.NoError(t, p.keyboard.Close())
	return strings.TrimSuffix(p.text.String(), "\r\n") // the echoed key
}

func (p *pseudoTerminal) mode(t *testing.T) unix.Termios {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(p.program.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return *mode
}

func TestInteract(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for name, body := range map[string]func(*testing.T, *pseudoTerminal, *Screen, <-chan byte){
		"return": func(*testing.T, *pseudoTerminal, *Screen, <-chan byte) {},
		"key": func(t *testing.T, p *pseudoTerminal, _ *Screen, keys <-chan byte) {
			t.Helper()
			_, err := p.keyboard.WriteString("q") // without a newline
			require.NoError(t, err)
			require.Equal(t, byte('q'), <-keys)
		},
		"panic": func(*testing.T, *pseudoTerminal, *Screen, <-chan byte) { panic("the body failed") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPseudoTerminal(t)
			before := p.mode(t)
			call := func() {
				require.True(t, Interact(p.program, p.program, func(s *Screen, keys <-chan byte) {
					require.NotEqual(t, before, p.mode(t))
					require.Equal(t, 24, s.Rows())
					s.Draw(func(int) []string { return []string{"drawn"} })
					body(t, p, s, keys)
				}))
			}
			if name == "panic" {
				require.Panics(t, call)
			} else {
				call()
			}
			require.Equal(t, before, p.mode(t))
			text := p.close(t)
			require.Contains(t, text, "drawn")
			require.True(t, strings.HasPrefix(text, enterFull), "%q", text)
			require.True(t, strings.HasSuffix(text, showCursor+leaveFull), "%q", text)
		})
	}
}

func TestInteractWithoutTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	p := newPseudoTerminal(t)
	file, err := os.Create(t.TempDir() + "/file")
	require.NoError(t, err)
	defer file.Close()
	never := func(*Screen, <-chan byte) { require.Fail(t, "there is no terminal") }
	require.False(t, Interact(p.program, file, never))
	require.False(t, Interact(file, p.program, never))
	t.Setenv("TERM", "dumb")
	require.False(t, Interact(p.program, p.program, never))
	require.Empty(t, p.close(t), "nothing was written")
}
