package peers

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// builds contains the programs that this test binary has built, by flags and package.
var builds sync.Map // string → func() (string, error)

// build returns the path of the executable of a main package of this module.
func build(t testing.TB, pkg string, flags ...string) string {
	t.Helper()
	program(t, "go")
	path, err := Executable(pkg, flags...)
	require.NoError(t, err)
	return path
}

// Executable builds a main package with flags and returns the path of the executable. The executable is
// in Go's build cache, so all packages of a `go test ./...` share one link step. Linking a program
// with nats-server takes seconds.
func Executable(pkg string, flags ...string) (string, error) {
	args := append(append([]string{"run", "-exec=echo"}, flags...), pkg)
	once, _ := builds.LoadOrStore(strings.Join(args, " "), sync.OnceValues(func() (string, error) {
		// A run that links the program prints the path of a temporary file that is then deleted.
		// The next one prints the path in the cache, unless a source file has changed since.
		for range 10 {
			path, err := goTool(args...)
			if err != nil {
				return "", err
			}
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
		return "", fmt.Errorf("go does not keep the executable of %s in its cache", pkg)
	}))
	return once.(func() (string, error))()
}

func goTool(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
