package deploytest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
)

// The commands of docs/runbook.md that need the operator of nats.conf run as written, with the
// bridge's own configuration.
func TestRunbookCommands(t *testing.T) {
	t.Parallel()
	s, _ := startNATS(t, filepath.Join(root, "nats.conf"))
	bridge := connectNATS(t, s, "bridge")
	createStreams(t, bridge.js)
	message := nats.NewMsg(examples["QUARANTINE"])
	message.Header.Set("Bridge-Cn", "acme/dev-2")
	_, err := bridge.js.PublishMsg(t.Context(), message)
	require.NoError(t, err)

	dir := t.TempDir()
	for file, content := range map[string]string{
		"nats_operator.txt": natsPasswords["operator"],
		"nats.password":     natsPasswords["bridge"],
		"bridge.yaml":       "nats: {url: '" + s.ClientURL() + "', user: bridge, password_file: nats.password, inbox_prefix: _INBOX.bridge}\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600))
	}
	program := peers.Program(t, "mqtt-nats-bridge")
	page := read(t, "docs/runbook.md")
	variable := regexp.MustCompile(`(?m)^operator=.*$`).FindString(page)
	require.NotEmpty(t, variable)
	shell := func(command string) (string, error) {
		command = strings.NewReplacer("mqtt-nats-bridge", program, "NUMBER", "1").Replace(command)
		ctx, cancel := context.WithTimeout(t.Context(), testrun.Timeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", variable+"\n"+command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	var commands []string
	for _, m := range regexp.MustCompile("`(mqtt-nats-bridge (?:quarantine|streams) [^`]*)`").FindAllStringSubmatch(page, -1) {
		require.Contains(t, m[1], " -c bridge.yaml $operator")
		if !slices.Contains(commands, m[1]) && !strings.Contains(m[1], "quarantine replay") { // which needs more permissions
			commands = append(commands, m[1])
		}
	}
	shows := map[string]string{
		"ls --reason cn_mismatch": "cn_mismatch", "ls --reason bad_payload": "", "show": "acme/dev-2", "stats": "cn_mismatch", "apply": "",
	}
	require.Len(t, commands, len(shows))
	for _, command := range commands {
		out, err := shell(strings.Replace(command, " apply ", " apply --yes ", 1))
		require.NoError(t, err, "%s: %s", command, out)
		for name, text := range shows {
			if strings.Contains(command, " "+name+" ") {
				require.Contains(t, out, text, command)
			}
		}
	}
	// Without the flags the command uses the bridge's user, which lacks the permission.
	out, err := shell("mqtt-nats-bridge quarantine ls -c bridge.yaml")
	require.Error(t, err, out)
	require.Contains(t, out, "nats.user=operator")

	// The CLI's commands, and the CLI's options for the user.
	cli := needPeer(t, "nats")
	_, err = bridge.js.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: "BRIDGE_LANES"})
	require.NoError(t, err)
	require.Contains(t, page, "export NATS_USER=operator NATS_PASSWORD=$(cat nats_operator.txt)")
	home := t.TempDir()
	for _, command := range []string{"stream report", "stream info TELEMETRY", "consumer report TELEMETRY", "kv info BRIDGE_LANES"} {
		out, err := shell("export HOME=" + home + " XDG_CONFIG_HOME=" + home + " NATS_URL=" + s.ClientURL() +
			" NATS_USER=operator NATS_PASSWORD=$(cat nats_operator.txt); " + cli + " " + command)
		require.NoError(t, err, "nats %s: %s", command, out)
	}
}
