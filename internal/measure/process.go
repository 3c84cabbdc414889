// Package measure runs programs of this module as separate processes for the benches, and reads
// their CPU time, memory and metrics.
package measure

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"mqtt-nats-bridge/internal/child"
)

// Process is a child process of a bench.
type Process struct {
	*child.Process
	name   string
	pipe   *os.File // the read end of standard output; Stop and ReadJSON close it
	stdout *bufio.Reader
	stderr child.Log
}

// Start runs the current executable with other arguments.
func Start(ctx context.Context, env []string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// StdoutPipe is not used: it can lose output that is read after the process has ended.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	p := &Process{name: args[0], pipe: read, stdout: bufio.NewReader(read)}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = write, &p.stderr
	// A separate process group: an interrupt on the terminal reaches only the bench, which then
	// stops its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if p.Process, err = child.Start(cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", p.name, err), read.Close())
	}
	return p, nil
}

// Stop ends the process by SIGTERM, or after 15 s by SIGKILL, and waits.
func (p *Process) Stop() error { return p.stop(15 * time.Second) }

func (p *Process) stop(timeout time.Duration) error {
	defer p.pipe.Close()
	if err := p.End(syscall.SIGTERM, timeout); err != nil {
		_ = p.Signal(syscall.SIGKILL) // it fails only if the process has just ended
		return errors.Join(fmt.Errorf("stop %s: %w", p.name, err), p.Wait())
	}
	if p.State().ExitCode() > 0 {
		return fmt.Errorf("%s: %w: %s", p.name, p.Wait(), p.LogTail())
	}
	return nil
}

// LogTail returns the last lines that the process wrote to standard error.
func (p *Process) LogTail() string {
	lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
	return strings.Join(lines[max(len(lines)-5, 0):], " | ")
}

// clockTick is the time unit of /proc/PID/stat: USER_HZ is 100 per second on every Linux.
const clockTick = 10 * time.Millisecond

// CPU returns the user and system time of the process, with a resolution of 10 ms.
func (p *Process) CPU() (time.Duration, error) { return CPUOf(p.PID()) }

// CPUOf returns the CPU time of any process on this machine.
func CPUOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time (only on Linux): %w", err)
	}
	// The name in parentheses can contain spaces. utime and stime are the 12th and 13th fields
	// after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read CPU time: /proc/PID/stat has too few fields")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// RSS returns the resident memory of the process in bytes.
func (p *Process) RSS() (int64, error) { return p.memory("VmRSS:") }

// PeakRSS returns the peak of RSS in bytes.
func (p *Process) PeakRSS() (int64, error) { return p.memory("VmHWM:") }

func (p *Process) memory(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if kib, ok := strings.CutPrefix(line, field); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kib), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("read memory: no %s", field)
}

// Metric reads a counter or a gauge, summed over its labels.
func Metric(admin, name string) (float64, error) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return 0, err
	}
	if families[name] == nil {
		return 0, fmt.Errorf("no metric %s", name)
	}
	sum := 0.0
	for _, m := range families[name].GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return sum, nil
}

// AwaitReady waits until the program at admin is ready.
func AwaitReady(admin string, timeout time.Duration) error {
	client := http.Client{Timeout: time.Second}
	for deadline := time.Now().Add(timeout); ; time.Sleep(50 * time.Millisecond) {
		resp, err := client.Get("http://" + admin + "/readyz")
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the bridge is not ready after %s: %w", timeout, err)
		}
	}
}

// Fetch downloads a URL into a file.
func Fetch(url, name string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}

// ReadJSON waits for a process to end and decodes the line that it printed.
func ReadJSON(p *Process, v any) error {
	defer p.pipe.Close()
	text, err := p.stdout.ReadString('\n')
	if exit := p.Wait(); exit != nil {
		return fmt.Errorf("%s: %w: %s", p.name, exit, p.LogTail())
	}
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), v)
}

// ReadLine reads a line, waiting no longer than timeout.
func (p *Process) ReadLine(timeout time.Duration) (string, error) {
	if err := p.pipe.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	defer func() { _ = p.pipe.SetReadDeadline(time.Time{}) }()
	text, err := p.stdout.ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", fmt.Errorf("%s: no line within %s: %s", p.name, timeout, p.LogTail())
	}
	return strings.TrimSpace(text), err
}

// FileName converts the name of a scenario to a file name.
func FileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
}
