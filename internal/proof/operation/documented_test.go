package operation

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/proof"
)

// Runs the commands of docs/limits.md and docs/registry.md in order against a running bridge,
// and checks their documented effect.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	needProgram(t, "nats")
	r := newLiveRig(t, func(*liveRig) proof.Settings {
		return proof.Settings{"identity.registry.kind": "kv", "limits.device.rate": "10"}
	})
	overrides := func() int { return r.bridge.Status(t.Context()).Limits.Overrides.Overrides }
	after := map[string]int{ // overrides after a command that contains this
		`tenant.acme '{`: 1, `tenant.acme.devices '{`: 2, `tenant.acme.device.dev-1 '{`: 3, `nats kv del`: 2,
	}
	seen := 0
	for _, command := range append(documentedCommands(t, "limits.md"), documentedCommands(t, "registry.md")...) {
		r.shell(command)
		for text, n := range after {
			if strings.Contains(command, text) {
				proof.Eventually(t, func() bool { return overrides() == n }, func() any { return overrides() })
				seen++
			}
		}
	}
	require.Equal(t, len(after), seen)
	proof.AwaitReady(t, r.bridge)
	require.Zero(t, r.bridge.Status(t.Context()).Limits.Overrides.Refused)
	proof.Eventually(t, func() bool { return r.bridge.Status(t.Context()).Registry.Entries == 1 },
		func() any { return r.bridge.Status(t.Context()).Registry })
	require.Zero(t, r.bridge.Status(t.Context()).Registry.Refused)
	stop := r.load(2)
	r.until("dev-1 is revoked, dev-0 unknown", func() bool { return r.reasons(verdict.CertRevoked) > 0 && r.reasons(verdict.CertUnknown) > 0 })
	r.settled(stop())
}

// documentedCommands returns the nats CLI commands in a page's code blocks.
func documentedCommands(t *testing.T, page string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/" + page)
	require.NoError(t, err)
	for i, block := range strings.Split(string(text), "```") {
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); i%2 == 1 && strings.HasPrefix(line, "nats ") {
				commands = append(commands, line)
			}
		}
	}
	require.NotEmpty(t, commands)
	return commands
}

// shell runs a command in a shell with an empty home directory.
func (r *liveRig) shell(command string) {
	r.t.Helper()
	home := r.t.TempDir()
	cmd := exec.CommandContext(r.t.Context(), "sh", "-c", command)
	cmd.Env = append(os.Environ(), "NATS_URL="+r.nats.URL, "HOME="+home, "XDG_CONFIG_HOME="+home, "TERM=dumb")
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, "%s\n%s", command, out)
}
