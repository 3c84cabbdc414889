package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// builds is the one thing that outlives a test: a program is linked once for
// each test binary, however many tests run it.
var builds sync.Map // package path → func() (string, error)

// build returns the executable of a main package of this module.
func build(t testing.TB, pkg string) string {
	t.Helper()
	goTool := program(t, "go")
	once, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) {
		return compile(goTool, pkg)
	}))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func compile(goTool, pkg string) (string, error) {
	dir, err := scratch()
	if err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	path := filepath.Join(dir, filepath.Base(pkg))
	if out, err := exec.Command(goTool, "build", "-o", path, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// scratch is a directory that goes away after the tests: beside the test binary,
// which `go test` keeps in a directory of its own and removes. A binary from
// `go test -c` lies elsewhere, and so leaves what it built in the temporary
// directory.
func scratch() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	parent := ""
	if dir := filepath.Dir(self); strings.Contains(dir, "go-build") {
		parent = dir
	}
	return os.MkdirTemp(parent, "mqtt-nats-bridge-peers-")
}
