package doctest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConsumersPage(t *testing.T) {
	t.Parallel()
	t.Run("consumers get their messages", testConsumersGetTheirMessages)
	t.Run("Go program is the package example", testGoProgramIsThePackageExample)
	t.Run("Python program compiles", testPythonProgramCompiles)
}

// Before the page begins, dev-1 has sent two temperatures and dev-5 another message.
func testConsumersGetTheirMessages(t *testing.T) {
	t.Parallel()
	p := readPage(t, "consumers.md")
	p.check(t)
	f := newFleet(t)
	s := newSession(t, []string{"nats://127.0.0.1:4222", f.nats.URL}, "nats")
	f.publish("acme/dev-1", "tenant/acme/device/dev-1/telemetry", `{"temperature":21.5}`, `{"temperature":22}`)
	f.awaitMessages("TELEMETRY", 2) // messages of different devices have no order
	f.publish("acme/dev-5", "tenant/acme/device/dev-5/telemetry", "not JSON")
	f.awaitMessages("TELEMETRY", 3)
	s.play(p, nil)
}

// code returns the only block in a language.
func (p *page) code(t *testing.T, language string) string {
	t.Helper()
	var found []string
	for _, b := range p.blocks {
		if b.language == language {
			found = append(found, b.text)
		}
	}
	require.Len(t, found, 1, language)
	return found[0]
}

// The example is compiled with its package but not run: it prints.
func testGoProgramIsThePackageExample(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(filepath.Join("..", "..", "jetstream", "consume", "example_test.go"))
	require.NoError(t, err)
	_, body, found := strings.Cut(string(example), "func ExampleWorkers() {\n")
	require.True(t, found)
	body = strings.TrimSuffix(strings.ReplaceAll("\n"+body, "\n\t", "\n"), "}\n")
	require.Equal(t, strings.TrimSpace(body), readPage(t, "consumers.md").code(t, "go"))
}

// Without nats-py the test can only check that Python parses it.
func testPythonProgramCompiles(t *testing.T) {
	t.Parallel()
	needProgram(t, "python3")
	cmd := exec.Command("python3", "-c", "import sys; compile(sys.stdin.read(), 'consumers.md', 'exec')")
	cmd.Stdin = strings.NewReader(readPage(t, "consumers.md").code(t, "python"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
