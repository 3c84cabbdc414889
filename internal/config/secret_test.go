package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"mqtt-nats-bridge/internal/schema"
)

func TestSecretRedaction(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	file := write(t, "secret", secret)
	for name, c := range map[string]*Config{
		"password":      load(t, "mqtt: {username: u, password: hunter2}\nnats: {user: u, password: hunter2}"),
		"token":         load(t, "nats: {token: hunter2}"),
		"files":         load(t, "mqtt: {username: u, password_file: "+file+"}\nnats: {token_file: "+file+"}"),
		"URLs":          load(t, "mqtt: {url: 'mqtt://u:hunter2@h'}\nnats: {url: 'nats://u:hunter2@h,nats://hunter2@i'}"),
		"environment":   load(t, "", "BRIDGE_NATS_TOKEN=hunter2", "MQTT_URL=mqtt://u:hunter2@h"),
		"password only": load(t, "", "NATS_URL=nats://hunter2@h"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, err := json.Marshal(c)
			require.NoError(t, err)
			y, err := yaml.Dump(*c)
			require.NoError(t, err)
			shown := []string{c.String(), string(j), string(y)}
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
				shown = append(shown, fmt.Sprintf(verb, c), fmt.Sprintf(verb, *c), fmt.Sprintf(verb, c.MQTT), fmt.Sprintf(verb, &c.NATS))
			}
			for _, s := range shown {
				require.NotContains(t, s, secret)
				require.NotContains(t, s, fmt.Sprintf("%x", secret))
			}
		})
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	t.Run("secret is read from file", testSecretIsReadFromFile)
	t.Run("source with precedence wins", testSourceWithPrecedenceWins)
	t.Run("broker URL credentials move to their fields", testBrokerURLCredentialsMoveToTheirFields)
	t.Run("only regular files up to 1 MiB are read", testOnlyRegularFilesUpTo1MiBAreRead)
}

func testSecretIsReadFromFile(t *testing.T) {
	t.Parallel()
	file := write(t, "secret", "s3 cret\r\n")
	c := load(t, "mqtt: {username: u, password_file: "+file+"}\nnats: {user: u, password_file: "+file+"}")
	require.Equal(t, "s3 cret", c.MQTT.Password.Reveal())
	require.Equal(t, "s3 cret", c.NATS.Password.Reveal())
	require.Equal(t, "s3 cret", load(t, "", "BRIDGE_NATS_TOKEN_FILE="+file).NATS.Token.Reveal())

	require.Equal(t, []string{"bridge.yaml:1: mqtt.password_file: contradicts mqtt.password; give one of the two"},
		errorsOf(t, Sources{File: write(t, "bridge.yaml", "mqtt: {username: u, password: x, password_file: "+file+"}")}))
	got := errorsOf(t, Sources{Env: []string{"BRIDGE_NATS_TOKEN_FILE=" + write(t, "empty", "\n")}})
	require.Len(t, got, 1)
	require.Contains(t, got[0], "is empty; write the secret into it")
}

func testSourceWithPrecedenceWins(t *testing.T) {
	t.Parallel()
	file := write(t, "secret", "from the file")
	c := load(t, "nats: {token_file: "+file+"}", "BRIDGE_NATS_TOKEN=direct")
	require.Equal(t, "direct", c.NATS.Token.Reveal())
	require.Empty(t, c.NATS.TokenFile)
	c = load(t, "nats: {token: direct}", "BRIDGE_NATS_TOKEN_FILE="+file)
	require.Equal(t, "from the file", c.NATS.Token.Reveal())
}

func testBrokerURLCredentialsMoveToTheirFields(t *testing.T) {
	t.Parallel()
	c := load(t, "", "MQTT_URL=mqtt://bridge:p%40ss@emqx")
	require.Equal(t, "bridge", c.MQTT.Username)
	require.Equal(t, "p@ss", c.MQTT.Password.Reveal())
	require.Equal(t, "mqtt://emqx:1883", c.MQTT.URL.String())

	got := errorsOf(t, Sources{File: write(t, "bridge.yaml", "mqtt: {username: u}"), Env: []string{"MQTT_URL=mqtt://bridge:p@emqx"}})
	require.Equal(t, []string{"MQTT_URL: mqtt.url: contains credentials, and mqtt.username or mqtt.password is also given; keep one of the two"}, got)
}

// The rule is that of conn.RedactURL, whose test has the same cases.
func TestURLRedaction(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nats://n:4222":                        "nats://n:4222",
		"nats://[::1]:4222":                    "nats://[::1]:4222",
		"nats://u:p@n:4222":                    "nats://u:xxxxx@n:4222",
		"nats://t0ken@n:4222":                  "nats://xxxxx@n:4222",
		"nats://u:p@n:4222,tls://t0ken@m:4222": "nats://u:xxxxx@n:4222,tls://xxxxx@m:4222",
	} {
		require.Equal(t, want, load(t, "", "NATS_URL="+text).NATS.URL.String())
	}
}

func TestInlineSeedRedaction(t *testing.T) {
	t.Parallel()
	seed := "SU" + strings.Repeat("A", 56)
	for _, env := range []string{"BRIDGE_NATS_NKEY=" + seed, "BRIDGE_NATS_CREDS=eyJ0eXAi", "BRIDGE_NATS_CREDS=-----BEGIN NATS USER JWT-----", "BRIDGE_NATS_NKEY=" + seed + "\n"} {
		_, value, _ := strings.Cut(env, "=")
		got := errorsOf(t, Sources{Env: []string{env}})
		require.Len(t, got, 1)
		require.NotContains(t, got[0], strings.TrimSpace(value))
	}
}

func TestRedactedSources(t *testing.T) {
	t.Parallel()
	file := write(t, "bridge.yaml", "mqtt:\n  keepalive: 10s\n")
	c, err := Load(Sources{File: file, Env: []string{"BRIDGE_LIMITS_PAYLOAD=64KiB"}, Flags: []Flag{{Name: "--log", Path: "log.level", Value: "warn"}}})
	require.NoError(t, err)
	for _, line := range []string{
		"mqtt.url: mqtt://127.0.0.1:1883\n",
		"mqtt.keepalive: 10s  # " + file + ":2\n",
		"limits.payload: 64KiB  # BRIDGE_LIMITS_PAYLOAD\n",
		"log.level: warn  # --log\n",
		"topics[0].topic: tenant/{tenant}/device/{device}/{type}\n",
		"nats.token: \"\"\n",
	} {
		require.Contains(t, c.String(), line)
	}
}

func testOnlyRegularFilesUpTo1MiBAreRead(t *testing.T) {
	t.Parallel()
	// Reading a pipe or a device would block the start or never end.
	require.Equal(t, []string{`BRIDGE_NATS_TOKEN_FILE: the file "/dev/null" is not a regular file`},
		errorsOf(t, Sources{Env: []string{"BRIDGE_NATS_TOKEN_FILE=/dev/null"}}))
	got := errorsOf(t, Sources{Env: []string{"BRIDGE_NATS_TOKEN_FILE=" + write(t, "large", strings.Repeat("x", schema.MaxFile+1))}})
	require.Len(t, got, 1)
	require.Contains(t, got[0], "is larger than 1MiB")
}
