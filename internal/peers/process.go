package peers

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/testrun"
)

// Process is one program that can be started again and again, each time with
// the same arguments. Its methods are for the test's own goroutine.
type Process struct {
	t    testing.TB
	name string
	path string
	args []string
	env  []string // nil: the test's own
	// child is how it is forked; nil: it dies with the test binary.
	child *syscall.SysProcAttr
	log   Log
	// ready returns nil once the process serves.
	ready func() error

	// slow is how long a slow starter may take; 0: testrun.Timeout.
	slow time.Duration

	running *run
}

// run is one life of a process.
type run struct {
	*child.Process
	from int // where its output begins in the log, in bytes
}

// launch starts the process and waits until it is ready. It reports an error
// where the process ended instead.
func (p *Process) launch() error {
	p.t.Helper()
	if p.running != nil {
		return fmt.Errorf("start %s: it runs already", p.name)
	}
	r, err := p.spawn()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.running = r
	if p.ready == nil {
		return nil
	}
	deadline := time.Now().Add(max(testrun.Timeout, p.slow))
	for {
		err := p.ready()
		if err == nil {
			return nil
		}
		select {
		case <-r.Ended():
			p.running = nil
			return fmt.Errorf("start %s: it ended with %s", p.name, r.State())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s: %w", p.name, err)
		}
	}
}

func (p *Process) spawn() (*run, error) {
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = p.env
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr = p.child
	if p.child == nil {
		cmd.SysProcAttr = dieWithParent()
	}
	// A grandchild that kept the pipe open must not block Wait.
	cmd.WaitDelay = time.Second
	from := len(p.log.String())
	started, err := child.Start(cmd)
	return &run{started, from}, err
}

// start is the first launch. The process ends with the test.
func (p *Process) start() {
	p.t.Helper()
	p.endWithTest()
	p.must(p.launch())
}

func (p *Process) endWithTest() {
	p.t.Cleanup(func() {
		if p.running != nil {
			_ = p.end(syscall.SIGKILL)
		}
		if p.t.Failed() {
			p.t.Logf("log of %s:\n%s", p.name, p.log.Tail(4<<10))
		}
	})
}

func (p *Process) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%v\nlog of %s:\n%s", err, p.name, p.log.Tail(4<<10))
	}
}

// signal sends a signal, by pid, to this process alone.
func (p *Process) signal(s syscall.Signal) error {
	if p.running == nil {
		return fmt.Errorf("signal %s: it does not run", p.name)
	}
	if err := p.running.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// end sends a signal that ends the process, and waits for that. A process that
// has ended by itself is fine.
func (p *Process) end(s syscall.Signal) error {
	if p.running == nil {
		return fmt.Errorf("stop %s: it does not run", p.name)
	}
	if err := p.running.End(s, testrun.Timeout); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	p.running = nil
	return nil
}

// Stop ends the process with SIGTERM, waits for it and returns its exit code, -1
// where the signal itself killed it.
func (p *Process) Stop() int {
	p.t.Helper()
	r := p.running
	p.must(p.end(syscall.SIGTERM))
	return r.State().ExitCode()
}

// Kill9 ends the process with SIGKILL: no clean-up, no goodbye.
func (p *Process) Kill9() {
	p.t.Helper()
	p.must(p.end(syscall.SIGKILL))
}

// Start starts the process again, on the same port and with the same files, and
// returns when it serves.
func (p *Process) Start() {
	p.t.Helper()
	p.must(p.launch())
}

// Restart stops the process with SIGTERM and starts it again.
func (p *Process) Restart() {
	p.t.Helper()
	p.Stop()
	p.Start()
}

// Freeze stops the process without ending it (SIGSTOP) and returns when it
// stands still: its connections stay open, and nothing answers. Thaw lets it go
// on.
func (p *Process) Freeze() {
	p.t.Helper()
	p.must(p.signal(syscall.SIGSTOP))
	p.must(awaitStopped(p.running.PID()))
}

// Thaw undoes Freeze.
func (p *Process) Thaw() {
	p.t.Helper()
	p.must(p.signal(syscall.SIGCONT))
}

// Signal sends any signal to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	p.must(p.signal(s))
}

// Wait returns the exit code of a process that ends by itself.
func (p *Process) Wait() int {
	p.t.Helper()
	if p.running == nil {
		p.t.Fatalf("wait for %s: it does not run", p.name)
	}
	select {
	case <-p.running.Ended():
	case <-time.After(testrun.Timeout):
		p.must(fmt.Errorf("wait for %s: it does not end", p.name))
	}
	code := p.running.State().ExitCode()
	p.running = nil
	return code
}

// PID is the running process's, 0 where none runs.
func (p *Process) PID() int {
	if p.running == nil {
		return 0
	}
	return p.running.PID()
}

// Log is what the process wrote, in all its lives.
func (p *Process) Log() *Log { return &p.log }

// Log collects output. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed at the next write; nil: nobody waits
}

var _ io.Writer = (*Log)(nil)

func (l *Log) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(data)
}

// String is everything so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Tail is the last n bytes at most.
func (l *Log) Tail(n int) string {
	s := l.String()
	return s[max(0, len(s)-n):]
}

// Await waits until the log, from the byte offset from on, contains text, and
// returns the offset after it; the test fails where it does not come.
func (l *Log) Await(t testing.TB, from int, text string) int {
	t.Helper()
	timeout := time.After(testrun.Timeout)
	for {
		l.mu.Lock()
		s := l.text.String()
		if at := strings.Index(s[min(from, len(s)):], text); at >= 0 {
			l.mu.Unlock()
			return from + at + len(text)
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("wait for %q in the log: it did not come\n%s", text, l.Tail(4<<10))
		}
	}
}
