package peers

import (
	"cmp"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/testrun"
)

// Process is a program that can be started repeatedly with the same arguments. Only the test's own
// goroutine may call its methods.
type Process struct {
	t    testing.TB
	name string
	path string
	args []string
	env  []string            // nil: the test's own
	as   *syscall.Credential // nil: the user who runs the test
	log  Log
	// ready returns nil once the process serves.
	ready func() error

	// startTimeout bounds the start if it is longer than testrun.Timeout.
	startTimeout time.Duration
	stopSignal   syscall.Signal // 0: SIGTERM

	running *run
}

// run is one run of a process.
type run struct {
	*child.Process
	from int // the byte offset in the log at which its output begins
}

// launch starts the process and waits until it is ready. It returns an error if the process ends
// before that.
func (p *Process) launch() error {
	p.t.Helper()
	if p.running != nil {
		return fmt.Errorf("start %s: it is already running", p.name)
	}
	r, err := p.spawn()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.running = r
	if p.ready == nil {
		return nil
	}
	deadline := time.Now().Add(max(testrun.Timeout, p.startTimeout))
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
	cmd.SysProcAttr = dieWithParent()
	cmd.SysProcAttr.Credential = p.as
	// A grandchild that keeps the pipe open must not block Wait.
	cmd.WaitDelay = time.Second
	from := len(p.log.String())
	started, err := child.Start(cmd)
	return &run{started, from}, err
}

// start launches the process for the first time. The process ends with the test.
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

// end sends a signal that ends the process, and waits for the end. It is not an error if the process
// has already ended by itself.
func (p *Process) end(s syscall.Signal) error {
	if p.running == nil {
		return fmt.Errorf("stop %s: it is not running", p.name)
	}
	if err := p.running.End(s, testrun.Timeout); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	p.running = nil
	return nil
}

// Stop ends the process with SIGTERM, PostgreSQL with SIGINT ("fast": without waiting for clients). It
// waits for the end and returns the exit code, which is -1 if the signal itself killed the process.
func (p *Process) Stop() int {
	p.t.Helper()
	r := p.running
	p.must(p.end(cmp.Or(p.stopSignal, syscall.SIGTERM)))
	return r.State().ExitCode()
}

// Kill9 ends the process with SIGKILL, without any clean-up.
func (p *Process) Kill9() {
	p.t.Helper()
	p.must(p.end(syscall.SIGKILL))
}

// Start starts the process again, with the same port and files, and waits until it is ready.
func (p *Process) Start() {
	p.t.Helper()
	p.must(p.launch())
}

// Restart stops the process and starts it again.
func (p *Process) Restart() {
	p.t.Helper()
	p.Stop()
	p.Start()
}

// Freeze suspends the process with SIGSTOP and waits until it is suspended. Its connections stay open,
// but it does not answer. Thaw resumes it.
func (p *Process) Freeze() {
	p.t.Helper()
	p.Signal(syscall.SIGSTOP)
	p.must(awaitStopped(p.running.PID()))
}

// Thaw resumes a process after Freeze.
func (p *Process) Thaw() {
	p.t.Helper()
	p.Signal(syscall.SIGCONT)
}

// Signal sends any signal to this process only, by pid.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if p.running == nil {
		p.t.Fatalf("signal %s: it is not running", p.name)
	}
	if err := p.running.Signal(s); err != nil {
		p.must(fmt.Errorf("signal %s: %w", p.name, err))
	}
}

// Wait waits until the process ends by itself, and returns its exit code.
func (p *Process) Wait() int {
	p.t.Helper()
	if p.running == nil {
		p.t.Fatalf("wait for %s: it is not running", p.name)
	}
	select {
	case <-p.running.Ended():
	case <-time.After(testrun.Timeout):
		p.must(fmt.Errorf("wait for %s: it has not ended", p.name))
	}
	code := p.running.State().ExitCode()
	p.running = nil
	return code
}

// PID returns the process id, or 0 if the process is not running.
func (p *Process) PID() int {
	if p.running == nil {
		return 0
	}
	return p.running.PID()
}

// Log returns the output of all runs of the process.
func (p *Process) Log() *Log { return &p.log }

// Log collects output and waits for it.
type Log struct{ child.Log }

// Await waits until the log contains text at or after the byte offset from, and returns the offset
// after the text. If the text does not appear in time, the test fails.
func (l *Log) Await(t testing.TB, from int, text string) int {
	t.Helper()
	timeout := time.After(testrun.Timeout)
	for {
		end, changed := l.Find(from, text)
		if changed == nil {
			return end
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("wait for %q in the log: it did not appear\n%s", text, l.Tail(4<<10))
		}
	}
}
