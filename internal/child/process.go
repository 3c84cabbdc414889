// Package child runs a program as a process of its own and waits for it, for the benches and for tests.
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

// Process is a program from its start to its end. Its methods may be called from any goroutine.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has been waited for
	err   error         // of Wait; after ended
}

// Start starts a command, from a thread that lives as long as the process: the kernel sends
// the parent-death signal when the forking thread ends, not the program.
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

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed once the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits until the process has ended and returns what exec.Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.ended
	return p.err
}

// State is how the process ended, for which it waits.
func (p *Process) State() *os.ProcessState {
	<-p.ended
	return p.cmd.ProcessState
}

// Signal sends a signal to this process alone.
func (p *Process) Signal(s syscall.Signal) error {
	select {
	case <-p.ended:
		return fmt.Errorf("it ended with %s", p.State())
	default:
		return p.cmd.Process.Signal(s)
	}
}

// End sends a signal that ends the process, and waits for that. A process that has ended by
// itself is fine.
func (p *Process) End(s syscall.Signal, timeout time.Duration) error {
	sent := p.Signal(s)
	select {
	case <-p.ended:
		return nil
	case <-time.After(timeout):
		return errors.Join(sent, fmt.Errorf("signal %v did not end it within %s", s, timeout))
	}
}
