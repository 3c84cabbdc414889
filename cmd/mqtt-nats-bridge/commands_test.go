package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/peers"
)

func TestHelp(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for _, args := range []string{"", "run", "check", "map", "streams", "streams plan", "streams apply", "quarantine replay", "gate", "healthcheck", "top", "config", "config init", "completion", "version"} {
		got := peers.Run(t, append(strings.Fields(args), "--help")...)
		require.Zero(t, got.Code)
		require.Empty(t, got.Err)
		all.WriteString("$ mqtt-nats-bridge " + strings.TrimSpace(args+" --help") + "\n" + got.Out + "\n")
	}
	golden.Require(t, "testdata/help.golden", all.String())
	for _, args := range []string{"demo", "bench", "drill"} {
		got := peers.Run(t, args, "--help")
		require.Zero(t, got.Code)
		require.Contains(t, got.Out, "Example: mqtt-nats-bridge "+args)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	require.NoError(t, os.WriteFile(wrong, []byte("mqtt: {keepalive: soon}\nlogs: {}\n"), 0o600))
	const unreachable = "nats://127.0.0.1:1"
	for name, test := range map[string]struct {
		args []string
		code int
		err  string
	}{
		"version":                   {[]string{"version"}, 0, ""},
		"map, stored":               {[]string{"map", "tenant/a/device/b/t"}, 0, ""},
		"map, rejected":             {[]string{"map", "tenant/a/device/b/t", "elsewhere"}, 1, ""},
		"check":                     {[]string{"check"}, 0, ""},
		"check, unreachable":        {[]string{"check", "--connect", "--mqtt-url=mqtt://127.0.0.1:1", "--nats-url=" + unreachable}, 1, ""},
		"check, device alone":       {[]string{"check", "--device-url=mqtts://127.0.0.1", "--device-cert=x", "--device-key=x"}, 2, "--device-url needs --connect"},
		"check, half a device":      {[]string{"check", "--connect", "--device-url=mqtts://127.0.0.1"}, 2, "--device-url and --device-cert and --device-key must be used together"},
		"check, device without TLS": {[]string{"check", "--connect", "--device-url=mqtt://127.0.0.1", "--device-cert=x", "--device-key=x"}, 2, "must begin with mqtts://"},
		"check, no such device":     {[]string{"check", "--connect", "--device-url=mqtts://127.0.0.1", "--device-cert=/nowhere/d.pem", "--device-key=/nowhere/d.key"}, 2, "read certificate /nowhere/d.pem: no such file"},
		"healthcheck, unreachable":  {[]string{"healthcheck", "--set", "admin.listen=127.0.0.1:1"}, 1, "check readiness of the bridge"},
		"healthcheck, no endpoint":  {[]string{"healthcheck", "--set", "admin.listen="}, 2, "--set: admin.listen: is empty"},
		"top, unreachable":          {[]string{"top", "--set", "admin.listen=127.0.0.1:1"}, 1, "no answer from http://127.0.0.1:1"},
		"top, no endpoint":          {[]string{"top", "--set", "admin.listen="}, 2, "--set: admin.listen: is empty"},
		"top, no address":           {[]string{"top", "--admin", "ftp://x"}, 2, "top: not the address of an admin endpoint"},
		"gate, no API":              {[]string{"gate"}, 2, "mqtt.emqx.api: is not set"},
		"gate, API unreachable":     {[]string{"gate", "--once", "--set=mqtt.emqx.api=http://127.0.0.1:1", "--set=mqtt.emqx.key=k", "--set=mqtt.emqx.secret=s"}, 1, "the API cannot be reached"},
		"plan, unreachable":         {[]string{"streams", "plan", "--nats-url=" + unreachable}, 1, "cannot be reached: dial tcp 127.0.0.1:1: connect: connection refused"},
		"apply, no terminal":        {[]string{"streams", "apply", "--nats-url=" + unreachable}, 2, "set --yes"},
		"apply, not ours":           {[]string{"streams", "apply", "--yes", "--set", "streams.manage=off"}, 2, "streams.manage: is off"},
		"drill, no broker":          {[]string{"drill"}, 2, "missing flags: --broker=URL"},
		"drill, a password":         {[]string{"drill", "--broker=mqtt://u:p@127.0.0.1"}, 2, "must have no user and password"},
		"drill, a key alone":        {[]string{"drill", "--broker=mqtts://127.0.0.1", "--ca-key=x"}, 2, "--ca-key requires --ca-cert"},
		"drill, unknown topic":      {[]string{"drill", "--broker=mqtt://127.0.0.1", "--topic=x/{tenant}/{device}"}, 2, "matches none of the configured topics"},
		"drill, over the limit":     {[]string{"drill", "--broker=mqtt://127.0.0.1", "--devices=2", "--set=limits.device.rate=10"}, 2, "50.0 messages per second per device, and limits.device.rate is 10"},
		"drill, unreachable":        {[]string{"drill", "--broker=mqtt://127.0.0.1:1", "--nats-url=" + unreachable}, 1, "cannot be reached"},
		"unknown command":           {[]string{"chekc"}, 2, "unexpected argument chekc"},
		"unknown flag":              {[]string{"check", "--conect"}, 2, "--conect"},
		"replay, no reason":         {[]string{"quarantine", "replay"}, 2, "--reason is required, one of bad_topic, "},
		"replay, no such reason":    {[]string{"quarantine", "replay", "--reason=fast"}, 2, "--reason fast: unknown reason"},
		"replay, no time":           {[]string{"quarantine", "replay", "--reason=refused", "--since=yesterday"}, 2, "--since yesterday: write a duration before now"},
		"replay, backwards":         {[]string{"quarantine", "replay", "--reason=refused", "--since=1h", "--until=2h"}, 2, "--until is before --since"},
		"replay, no registry asked": {[]string{"quarantine", "replay", "--reason=rate_limited,cert_revoked", "--set", "identity.registry.kind=kv"}, 2, "--reason cert_revoked: these messages were not checked against the certificate registry"},
		"replay, unreachable":       {[]string{"quarantine", "replay", "--reason=refused", "--nats-url=" + unreachable}, 1, "cannot be reached"},
		"no topic":                  {[]string{"map"}, 2, "expected \"<topic> ...\"\nExample: mqtt-nats-bridge map tenant/acme/"},
		"--set without a value":     {[]string{"check", "--set", "mqtt.url"}, 2, "expected KEY=VALUE"},
		"--set of no key":           {[]string{"check", "--set", "mqtt.ulr=x"}, 2, "did you mean mqtt.url?"},
		"run, wrong configuration":  {[]string{"--config", wrong}, 2, "2 errors in the configuration"},
		"map, wrong configuration":  {[]string{"map", "--config", wrong, "t"}, 2, "2 errors in the configuration"},
		"no such file":              {[]string{"check", "-c", "/nowhere/bridge.yaml"}, 2, "1 error in the configuration"},
		"pattern that means nothing": {[]string{"check", "--set", "topics=a/{tenant}/b"}, 2,
			"it lacks {device}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := peers.Run(t, test.args...)
			require.Equal(t, test.code, got.Code, "%s%s", got.Out, got.Err)
			require.Contains(t, got.Err, test.err)
			if test.err == "" {
				require.Empty(t, got.Err)
			}
		})
	}
}

func TestConfigurationErrors(t *testing.T) {
	t.Parallel()
	t.Run("each error has its line", testEachErrorHasItsLine)
	t.Run("topic errors are in the same list", testTopicErrorsAreInTheSameList)
}

func testEachErrorHasItsLine(t *testing.T) {
	t.Parallel()
	cmd := peers.Command(t, "run", "-c", "bridge.yaml", "--log-level", "loud")
	cmd.Env = append(cmd.Env, "BRIDGE_LIMITS_PAYLOAD=lots")
	require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, "bridge.yaml"), []byte(`mqtt:
  url: mqtts://emqx:8883
  keepalive: soon
  tls: {ca: /nowhere/ca.pem}
nats:
  ulr: nats://nats:4222
`), 0o600))
	got := peers.Finish(t, cmd)
	require.Equal(t, 2, got.Code)
	golden.Require(t, "testdata/errors.golden", got.Err)
}

func testTopicErrorsAreInTheSameList(t *testing.T) {
	t.Parallel()
	cmd := peers.Command(t, "run", "-c", "bridge.yaml")
	cmd.Env = append(cmd.Env, "BRIDGE_IDENTITY_PREFIX=bridge/{x")
	require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, "bridge.yaml"), []byte(`log:
  level: loud
topics:
  - tenant/{tenant}/device/{device}/{type}
  - tenant/{tenant}/device/{device}/telemetry
  - tenant/{tenant}/state
  - topic: site/{tenant}/{device}
    subject: site.{plant}.{device}
  - topic: quarantine/{tenant}/{device}
  - topic: alarm/{tenant}/{device}
    subject: tenant.{tenant}.device.{device}.alarm
    stream: shadow
streams:
  shadow: {max_age: 1m}
`), 0o600))
	got := peers.Finish(t, cmd)
	require.Equal(t, 2, got.Code)
	golden.Require(t, "testdata/errors-topics.golden", got.Err)
}

func TestMapCommand(t *testing.T) {
	t.Parallel()
	const attested = "bridge/v1/d/000660F22358AE4BB44B000005020002/1795442951630/"
	got := peers.Run(t, "map",
		"tenant/acme/device/dev-1/telemetry", "tenant/acme/device/dev-1/shadow/reported",
		"tenant/a.b/device/*/c d", "tenant//device/dev-1/telemetry", "tenant/acme/telemetry",
		"tenant/+/device/dev-1/telemetry", "tenant/acme/device/"+strings.Repeat("x", 1100)+"/telemetry",
		attested+"61636D652F6465762D31/tenant/acme/device/dev-1/telemetry",
		attested+"61636D652F6465762D31/tenant/acme/device/dev-2/telemetry",
		attested+"61636D652F2B/tenant/acme/device/dev-2/telemetry",
		attested+"756E646566696E6564/tenant/acme/device/dev-2/telemetry",
		"bridge/v1/d/short")
	require.Equal(t, 1, got.Code)
	require.Empty(t, got.Err)
	golden.Require(t, "testdata/map.golden", got.Out)
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	t.Run("source of each value is shown", testSourceOfEachValueIsShown)
	t.Run("unreachable peer is reported", testUnreachablePeerIsReported)
}

func testSourceOfEachValueIsShown(t *testing.T) {
	t.Parallel()
	cmd := peers.Command(t, "check", "-c", "bridge.yaml", "--set", "limits.payload=64KiB", "--mqtt-url", "mqtt://bridge:hunter2@emqx")
	cmd.Env = append(cmd.Env, "BRIDGE_LIMITS_TENANT_RATE=100", "NATS_URL=nats://user:hunter3@nats:4222")
	require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, "bridge.yaml"), []byte("\nidentity: {mode: off}\n"), 0o600))
	got := peers.Finish(t, cmd)
	require.Zero(t, got.Code, got.Err)
	require.NotContains(t, got.Out+got.Err, "hunter")
	golden.Require(t, "testdata/check.golden", got.Out)
}

func testUnreachablePeerIsReported(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	got := peers.Run(t, "check", "--connect", "--mqtt-url", "mqtt://127.0.0.1:1", "--nats-url", server.URL())
	require.Equal(t, 1, got.Code)
	_, findings, _ := strings.Cut(got.Out, "\n\n")
	findings = regexp.MustCompile(`127\.0\.0\.1:\d\d+`).ReplaceAllString(findings, "127.0.0.1:PORT")
	findings = regexp.MustCompile(`nats-server [\d.]+`).ReplaceAllString(findings, "nats-server VERSION")
	golden.Require(t, "testdata/check-connect.golden", findings)
}

func TestVersionCommand(t *testing.T) {
	t.Parallel()
	got := peers.Run(t, "version")
	require.Zero(t, got.Code)
	require.Regexp(t, `^mqtt-nats-bridge 1\.2\.3-test\ncommit 0123abcd\ndate 2026-01-02T03:04:05Z\ngo1\.\S+ \w+/\w+\ngithub.com/eclipse/paho.mqtt.golang v\S+\ngithub.com/nats-io/nats-server/v2 v\S+\ngithub.com/nats-io/nats.go v\S+\n$`, got.Out)
}

// Scripts and editors rely on this output.
func TestScriptingInterface(t *testing.T) {
	t.Parallel()
	got := peers.Run(t, "--version")
	require.Zero(t, got.Code)
	require.True(t, strings.HasPrefix(got.Out, "mqtt-nats-bridge "), got.Out)
	for _, args := range []string{"version", "check", "config show", "map tenant/a/device/b/t"} {
		got := peers.Run(t, append(strings.Fields(args), "-o", "json")...)
		require.Zero(t, got.Code, args)
		require.True(t, json.Valid([]byte(got.Out)), "%s: %s", args, got.Out)
	}
	got = peers.Run(t, "check", "-o", "json", "--set", "mqtt.keepalive=never", "--set", "limits.payload=0")
	require.Equal(t, 2, got.Code)
	require.Contains(t, got.Err, "2 errors in the configuration")
	var report checked
	require.NoError(t, json.Unmarshal([]byte(got.Out), &report), got.Out)
	require.Equal(t, 2, report.Failed)
	require.Equal(t, "fail", report.Findings[0].Verdict)
	require.Contains(t, got.Err, report.Findings[0].Text)
	cmd := peers.Command(t, "check", "-c", "-")
	cmd.Stdin = strings.NewReader("mqtt: {client_id: other, username: u, password: hunter2}\nlog: {level: info}\n")
	got = peers.Finish(t, cmd)
	require.Zero(t, got.Code, got.Err)
	require.True(t, strings.HasPrefix(got.Out, "ok "), "findings first: %s", got.Out)
	require.Contains(t, got.Out, "mqtt.client_id: other  # stdin:1\n")
	require.NotContains(t, got.Out, "log.level", "the default, written out")
	require.NotContains(t, got.Out, "hunter2")
	require.Contains(t, peers.Run(t, "check", "--all").Out, "log.level: info\n")

	shown := peers.Run(t, "config", "schema").Out
	file, err := os.ReadFile("../../docs/mqtt-nats-bridge.schema.json")
	require.NoError(t, err)
	require.Equal(t, string(file), shown)
	cmd = peers.Command(t, "check", "-c", "-")
	cmd.Stdin = strings.NewReader(peers.Run(t, "config", "init", "--all").Out)
	got = peers.Finish(t, cmd)
	require.Zero(t, got.Code, got.Err)
	require.Contains(t, got.Out, "Every key has its default value.")
}

// TestCompletion runs the script for bash; the others are parsed if their shell is installed.
func TestCompletion(t *testing.T) {
	t.Parallel()
	script := peers.Run(t, "completion", "bash").Out
	for line, want := range map[string]string{
		"quarantine re":     "replay",
		"ch":                "check",
		"-c x check --dev":  "--device-url --device-cert --device-key --device-ca",
		"config s":          "show schema",
		"config show --out": "--output",
	} {
		words := append([]string{"mqtt-nats-bridge"}, strings.Fields(line)...)
		cmd := exec.Command("bash", append([]string{"-c", script + `
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mqtt_nats_bridge; echo "${COMPREPLY[*]}"`, "bash"}, words...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, strings.TrimSpace(string(out)), line)
	}
	for _, shell := range []string{"zsh", "fish"} {
		script := peers.Run(t, "completion", shell).Out
		require.Contains(t, script, "quarantine replay")
		if path, err := exec.LookPath(shell); err == nil {
			cmd := exec.Command(path, "-n")
			cmd.Stdin = strings.NewReader(script)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
}

// The commands of this program that docs/runbook.md names exist.
func TestRunbookCommands(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/runbook.md")
	require.NoError(t, err)
	named := regexp.MustCompile("(?m)(?:`|^)mqtt-nats-bridge((?: [a-z]+)+)").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		args := strings.Fields(m[1])
		if args[0] == "map" {
			args = args[:1] // a topic follows
		}
		got := peers.Run(t, append(args, "--help")...)
		require.Zero(t, got.Code, m[0])
		require.Contains(t, got.Out, "Usage: mqtt-nats-bridge "+strings.Join(args, " "), m[0])
	}
}
