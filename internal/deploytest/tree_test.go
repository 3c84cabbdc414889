package deploytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the path of the repository, relative to this package.
const root = "../.."

// read returns a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(b)
}

// firstGroup returns the first capture of pattern in s.
func firstGroup(t *testing.T, pattern, s string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(s)
	require.NotNil(t, m, "no match for %s", pattern)
	return m[1]
}

// stage copies the files of a deployment to a directory of its own, without the keys and passwords
// in a developer's checkout.
func stage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range []string{"docker-compose.yml", "nats.conf", "Dockerfile", ".dockerignore", "deploy/make-certs.sh"} {
		info, err := os.Stat(filepath.Join(root, f))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), []byte(read(t, f)), info.Mode()))
	}
	for _, sub := range []string{"deploy/emqx", "deploy/prometheus", "deploy/grafana"} {
		require.NoError(t, os.CopyFS(filepath.Join(dir, sub), os.DirFS(filepath.Join(root, sub))))
	}
	return dir
}

// needPeer finds a program that is not installed on every machine. If it is missing, the test is
// skipped, or fails under BRIDGE_REQUIRE_PEERS=1.
func needPeer(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("BRIDGE_REQUIRE_PEERS") == "1" {
			t.Fatalf("%s is not on PATH and BRIDGE_REQUIRE_PEERS=1", program)
		}
		t.Skipf("%s is not on PATH", program)
	}
	return path
}

// makeCerts runs deploy/make-certs.sh in a staged tree.
func makeCerts(t *testing.T, dir string, args ...string) (output string, err error) {
	t.Helper()
	needPeer(t, "openssl")
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "deploy/make-certs.sh"), args...)
	b, err := cmd.CombinedOutput()
	return string(b), err
}
