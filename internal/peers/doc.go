// Package peers runs the bridge's real peers and the programs themselves as separate processes, which a
// test can kill, stop, freeze and restart. The peers are mosquitto, RabbitMQ, PostgreSQL and
// nats-server, single or as a cluster of three. A TCP proxy between the processes can cut connections,
// drop their bytes or slow them down.
//
// Every process ends with its test, on Linux even if the test binary is killed. If a program is
// missing, the test is skipped. With BRIDGE_REQUIRE_PEERS=1 it fails instead, so that a build cannot
// pass without testing against the real peers.
package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// requirePeers is the environment variable that makes a missing peer a failure.
const requirePeers = "BRIDGE_REQUIRE_PEERS"

// program returns the path of an executable. It also searches the sbin directories, which contain
// Debian's servers and are not in a user's PATH.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := findProgram(name)
	if err != nil {
		missing(t, err.Error())
	}
	return path
}

func findProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %s not found", name)
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(requirePeers) == "1" {
		t.Fatalf("%s, and %s=1 requires it", why, requirePeers)
	}
	t.Skipf("%s; install it, or set %s=1 to make this a failure", why, requirePeers)
}
