package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"mqtt-nats-bridge/internal/testrun"
)

// PostgresProcess is a running PostgreSQL with one superuser, "postgres", who
// needs no password, and one database, "postgres".
type PostgresProcess struct {
	Process
	// URL is postgres://postgres@127.0.0.1:port/postgres, the same after Start.
	URL string
	// Addr is its host:port.
	Addr string

	data string
	as   *syscall.Credential // nil: who runs the test
}

// Postgres starts a PostgreSQL in a directory of the test's own, on a free port
// of 127.0.0.1. settings are further lines of its configuration ("fsync=off").
// Kill9 takes the postmaster alone; what it forked notices and ends too.
func Postgres(t testing.TB, settings ...string) *PostgresProcess {
	t.Helper()
	initdb, server := postgresProgram(t, "initdb"), postgresProgram(t, "postgres")
	dir := inMemory()
	removeStale(dir)
	// t.TempDir lies in a directory that only the test's own user may enter.
	data, err := os.MkdirTemp(dir, fmt.Sprintf("%s%d-", clusterPrefix, os.Getpid()))
	if err != nil {
		t.Fatalf("make a database cluster: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	addr := testrun.Address(t)
	p := &PostgresProcess{data: data, Addr: addr.String()}
	p.URL = "postgres://postgres@" + p.Addr + "/postgres?sslmode=disable"
	p.Process = Process{t: t, name: "postgres", path: server}
	p.ready = p.serves
	p.must(p.giveUpRoot())
	cmd := exec.Command(initdb, "--pgdata="+p.data, "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync", "--no-instructions")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	cmd.Dir = p.data
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a database cluster: %v\n%s", err, out)
	}
	if p.child = dieWithParent(); p.child == nil {
		p.child = &syscall.SysProcAttr{}
	}
	p.child.Credential = p.as
	p.env = append(os.Environ(), "LC_ALL=C")
	p.args = []string{"-D", p.data, "-p", strconv.Itoa(addr.Port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "logging_collector=off",
		// In its own directory: POSIX segments outlive a server that is killed.
		"-c", "dynamic_shared_memory_type=mmap"}
	for _, s := range settings {
		p.args = append(p.args, "-c", s)
	}
	p.start()
	return p
}

// inMemory is a directory in memory that has room, or "", which is os.TempDir. A cluster is a thousand files,
// and ext4 creates them slowly in the minutes after others were deleted: half of the CPU of such tests.
func inMemory() string {
	const dir, room = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || int64(fs.Bavail)*int64(fs.Bsize) < room {
		return ""
	}
	return dir
}

// clusterPrefix begins the names of the clusters' directories; the test's process id follows.
const clusterPrefix = "mqtt-nats-bridge-postgres-"

// removeStale removes what tests left that were killed: it would stay in memory.
func removeStale(dir string) {
	if dir == "" {
		return
	}
	found, _ := filepath.Glob(filepath.Join(dir, clusterPrefix+"*"))
	for _, path := range found {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), clusterPrefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			_ = os.RemoveAll(path)
		}
	}
}

// giveUpRoot has the server run as another user: PostgreSQL refuses to run as root.
func (p *PostgresProcess) giveUpRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return os.Chown(p.data, uid, gid)
	}
	return errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
}

// serves waits for the line that the postmaster logs in this very life.
func (p *PostgresProcess) serves() error {
	if !strings.Contains(p.log.String()[p.running.from:], "database system is ready to accept connections") {
		return errors.New("no word that it accepts connections")
	}
	return nil
}

// Stop shuts it down immediately, clients or not (SIGINT, "fast"), and returns its
// exit code.
func (p *PostgresProcess) Stop() int {
	p.t.Helper()
	r := p.running
	p.must(p.end(syscall.SIGINT))
	return r.State().ExitCode()
}

// Restart stops it and starts it again on the same port.
func (p *PostgresProcess) Restart() {
	p.t.Helper()
	p.Stop()
	p.Start()
}

// postgresProgram looks on PATH and where Debian keeps one directory for each
// major version, of which the newest wins.
func postgresProgram(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		missing(t, fmt.Sprintf("program %s (PostgreSQL) not found", name))
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
}
