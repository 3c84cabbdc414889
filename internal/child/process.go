// Package child runs a program as a child process and waits for its end, for benchmarks and tests.
package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a child process. Its methods are safe for concurrent use.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed after the process has ended
	err   error         // the result of Wait; set before ended is closed
}

// Start starts a command from a thread that lives as long as the process. The kernel sends the
// parent-death signal when the forking thread ends, not when the program ends.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	return p, <-started
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended returns a channel that is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits until the process has ended and returns the result of exec.Cmd.Wait.
func (p *Process) Wait() error {
	<-p.ended
	return p.err
}

// State waits until the process has ended and returns its state.
func (p *Process) State() *os.ProcessState {
	<-p.ended
	return p.cmd.ProcessState
}

// Signal sends a signal to this process only.
func (p *Process) Signal(s syscall.Signal) error {
	select {
	case <-p.ended:
		return fmt.Errorf("it ended with %s", p.State())
	default:
		return p.cmd.Process.Signal(s)
	}
}

// End sends a signal that ends the process, and waits for its end. It is not an error if the process has
// already ended by itself.
func (p *Process) End(s syscall.Signal, timeout time.Duration) error {
	sent := p.Signal(s)
	select {
	case <-p.ended:
		return nil
	case <-time.After(timeout):
		return errors.Join(sent, fmt.Errorf("signal %v did not end it within %s", s, timeout))
	}
}
