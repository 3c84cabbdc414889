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

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// PostgresProcess is a running PostgreSQL with the database "postgres" and the superuser "postgres",
// who needs no password.
type PostgresProcess struct {
	Process
	// URL is postgres://postgres@127.0.0.1:port/postgres. It does not change.
	URL string
	// Addr is the server's host:port.
	Addr string

	data string
}

// Postgres starts a PostgreSQL in a temporary directory on a free port of 127.0.0.1. settings are
// additional lines of its configuration, such as "fsync=off". Kill9 kills only the postmaster; its
// child processes then exit by themselves.
func Postgres(t testing.TB, settings ...string) *PostgresProcess {
	t.Helper()
	initdb, server := postgresProgram(t, "initdb"), postgresProgram(t, "postgres")
	dir := inMemory()
	removeStale(dir)
	// t.TempDir is not used, because only the test's user can access its parent directory.
	data, err := os.MkdirTemp(dir, fmt.Sprintf("%s%d-", clusterPrefix, os.Getpid()))
	require.NoError(t, err, "create a database cluster")
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	addr := testrun.Address(t)
	p := &PostgresProcess{data: data, Addr: addr.String()}
	p.URL = "postgres://postgres@" + p.Addr + "/postgres?sslmode=disable"
	p.Process = Process{t: t, name: "postgres", path: server, ready: p.serves, stopSignal: syscall.SIGINT}
	p.must(p.dropRoot())
	cmd := exec.Command(initdb, "--pgdata="+p.data, "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync", "--no-instructions")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	cmd.Dir = p.data
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "create a database cluster: %s", out)
	p.env = cmd.Env
	p.args = []string{"-D", p.data, "-p", strconv.Itoa(addr.Port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "logging_collector=off",
		// Segments in the server's directory, because POSIX segments outlive a killed server.
		"-c", "dynamic_shared_memory_type=mmap"}
	for _, s := range settings {
		p.args = append(p.args, "-c", s)
	}
	p.start()
	return p
}

// inMemory returns an in-memory directory with enough space, or "", which means os.TempDir. A database
// cluster has a thousand files. ext4 creates files slowly for minutes after many were deleted, which
// used half of the CPU time of such tests.
func inMemory() string {
	const dir, space = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || int64(fs.Bavail)*int64(fs.Bsize) < space {
		return ""
	}
	return dir
}

// clusterPrefix is the prefix of the directory names of clusters. The test's process id follows.
const clusterPrefix = "mqtt-nats-bridge-postgres-"

// removeStale removes the directories of killed tests, which would otherwise remain in memory.
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

// dropRoot selects another user for the server, because PostgreSQL refuses to run as root.
func (p *PostgresProcess) dropRoot() error {
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
	return errors.New("PostgreSQL refuses to run as root, and neither the user postgres nor the user nobody exists")
}

// serves checks for the postmaster's line in the log of the current run.
func (p *PostgresProcess) serves() error {
	if !strings.Contains(p.log.String()[p.running.from:], "database system is ready to accept connections") {
		return errors.New("it has not logged that it accepts connections")
	}
	return nil
}

// postgresProgram returns the path of a program of PostgreSQL. It searches PATH, then Debian's
// directories, which exist per major version, and selects the newest version.
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
