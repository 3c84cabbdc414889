package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"mqtt-nats-bridge/internal/child"
)

// process is a program that takes part in a run. Its output goes to a file.
type process struct {
	name, line, dir string

	running atomic.Pointer[child.Process] // nil: it was never started
}

func (p *process) start() error {
	log, err := os.OpenFile(filepath.Join(p.dir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	words := strings.Fields(p.line)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	running, err := child.Start(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.running.Store(running)
	return nil
}

func (p *process) pid() int { return p.running.Load().PID() }

func (p *process) stop() { p.end(syscall.SIGTERM) }
func (p *process) kill() { p.end(syscall.SIGKILL) }

func (p *process) end(s syscall.Signal) {
	if running := p.running.Load(); running != nil && running.End(s, 10*time.Second) != nil {
		_ = running.Signal(syscall.SIGKILL)
		_ = running.Wait()
	}
}
