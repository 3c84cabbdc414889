// Package peers runs the bridge's real counterparts, and the programs themselves, as
// processes of their own that a test can kill, stop, freeze and start again:
// mosquitto, nats-server, alone or three of them as a cluster, PostgreSQL,
// mqtt-nats-bridge and ingest; and a TCP proxy in between that cuts connections,
// swallows what they carry or slows it down.
//
// Every process ends with its test, also where the test binary itself is
// killed. A program that is missing skips the test, unless BRIDGE_REQUIRE_PEERS=1
// is set: then the test fails, so that a build that promises to test against
// real peers cannot pass without them.
package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// requirePeers is the variable that turns a missing peer into a failure.
const requirePeers = "BRIDGE_REQUIRE_PEERS"

// program finds an executable, also in the sbin directories, where Debian keeps
// servers and a user's PATH does not lead.
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
		t.Fatalf("%s, and %s=1 demands it", why, requirePeers)
	}
	t.Skipf("%s; install it, or set %s=1 to make this a failure", why, requirePeers)
}
