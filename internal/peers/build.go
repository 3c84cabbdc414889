package peers

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// builds are the programs that this test binary has asked for, by flags and package.
var builds sync.Map // string → func() (string, error)

// build returns the executable of a main package of this module.
func build(t testing.TB, pkg string) string {
	t.Helper()
	program(t, "go")
	path, err := Executable(pkg)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Executable returns the path of a main package's executable, built with flags. It
// lies in Go's build cache, so that all packages of a `go test ./...` share one
// link, which takes seconds for a program with nats-server in it.
func Executable(pkg string, flags ...string) (string, error) {
	args := append(append([]string{"run", "-exec=echo"}, flags...), pkg)
	once, _ := builds.LoadOrStore(strings.Join(args, " "), sync.OnceValues(func() (string, error) {
		// The first one may link, and then prints a path that is gone when it ends.
		if _, err := goTool(args...); err != nil {
			return "", err
		}
		return goTool(args...)
	}))
	return once.(func() (string, error))()
}

func goTool(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, problems.String())
	}
	return strings.TrimSpace(string(out)), nil
}
