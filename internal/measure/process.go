// Package measure runs programs of this module as processes of their own and reads what
// they cost, for the benches.
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
)

// Process is a child of a bench.
type Process struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr *bytes.Buffer
	done   chan error
}

// Start runs this very program with other arguments.
func Start(ctx context.Context, env []string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: exec.CommandContext(ctx, self, args...), stderr: new(bytes.Buffer), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdout = bufio.NewReader(out)
	// An interrupt on the terminal reaches the bench alone, which then stops
	// its children in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	return p, nil
}

// Stop ends the process by SIGTERM and waits.
func (p *Process) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return fmt.Errorf("%s: %w: %s", p.cmd.Args[1], err, lastLines(p.stderr.String()))
		}
		return nil
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		return fmt.Errorf("%s did not stop within 15 s", p.cmd.Args[1])
	}
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(len(lines)-5, 0):], " | ")
}

// clockTick is the unit of /proc/PID/stat: USER_HZ, 100 per second on every
// Linux.
const clockTick = 10 * time.Millisecond

// CPU is the user and system time the process has used, to 10 ms.
func (p *Process) CPU() (time.Duration, error) { return CPUOf(p.cmd.Process.Pid) }

// CPUOf is that of any process of this machine.
func CPUOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time (Linux alone): %w", err)
	}
	// The name in parentheses may contain blanks; utime and stime are the 12th
	// and 13th fields behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read CPU time: /proc/PID/stat is short")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// RSS is the resident memory of the process in bytes, PeakRSS the most it has been.
func (p *Process) RSS() (int64, error) { return p.memory("VmRSS:") }

// PeakRSS see RSS.
func (p *Process) PeakRSS() (int64, error) { return p.memory("VmHWM:") }

func (p *Process) memory(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
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

// Metric reads one unlabelled metric, or the sum over its labels.
func Metric(admin, name string) (float64, error) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.SplitSeq(string(body), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}

// AwaitReady waits until the program at admin says it is ready.
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

// Fetch stores what a URL gives in a file.
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

// ReadJSON waits for a process and decodes the one line it prints.
func ReadJSON(p *Process, v any) error {
	text, err := p.stdout.ReadString('\n')
	if exit := <-p.done; exit != nil {
		return fmt.Errorf("%s: %w: %s", p.cmd.Args[1], exit, lastLines(p.stderr.String()))
	}
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), v)
}

// ReadLine reads a line, waiting no longer than timeout.
func (p *Process) ReadLine(timeout time.Duration) (string, error) {
	type line struct {
		text string
		err  error
	}
	ch := make(chan line, 1)
	go func() {
		text, err := p.stdout.ReadString('\n')
		ch <- line{strings.TrimSpace(text), err}
	}()
	select {
	case l := <-ch:
		return l.text, l.err
	case <-time.After(timeout):
		return "", fmt.Errorf("%s: no line within %s: %s", p.cmd.Args[1], timeout, lastLines(p.stderr.String()))
	}
}

// FileName makes a file name of a scenario's name.
func FileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
}

// Said is the end of what the process wrote to its standard error output.
func (p *Process) Said() string { return lastLines(p.stderr.String()) }
