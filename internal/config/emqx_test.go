package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEMQX(t *testing.T) {
	t.Parallel()
	t.Run("the secret is read from its file again", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(file, []byte("one\n"), 0o600))
		c, err := Load(Sources{Env: []string{
			"BRIDGE_MQTT_EMQX_API=http://emqx:18083/", "BRIDGE_MQTT_EMQX_KEY=bridge", "BRIDGE_MQTT_EMQX_SECRET_FILE=" + file,
		}})
		require.NoError(t, err)
		require.Equal(t, "http://emqx:18083", c.MQTT.EMQX.API.String())
		require.NoError(t, os.WriteFile(file, []byte("two\r\n"), 0o600))
		secret, err := c.MQTT.EMQX.CurrentSecret()
		require.NoError(t, err)
		require.Equal(t, "two", secret)
		require.NoError(t, os.Remove(file))
		_, err = c.MQTT.EMQX.CurrentSecret()
		require.ErrorContains(t, err, "does not exist")
	})
	for name, step := range map[string]struct {
		env  []string
		want string
	}{
		"no key":     {[]string{"BRIDGE_MQTT_EMQX_API=http://emqx:18083"}, "BRIDGE_MQTT_EMQX_API: is given without an API key; give mqtt.emqx.key and mqtt.emqx.secret_file too"},
		"no API":     {[]string{"BRIDGE_MQTT_EMQX_KEY=k", "BRIDGE_MQTT_EMQX_SECRET=s"}, "BRIDGE_MQTT_EMQX_KEY: is given without mqtt.emqx.api; give the URL of EMQX's API too, or remove this key"},
		"in the URL": {[]string{"BRIDGE_MQTT_EMQX_API=http://k:hunter2@emqx:18083"}, "BRIDGE_MQTT_EMQX_API: the URL (not shown, it contains credentials); remove the credentials, and give mqtt.emqx.key and mqtt.emqx.secret_file instead"},
		"a scheme":   {[]string{"BRIDGE_MQTT_EMQX_API=mqtt://emqx:18083"}, `BRIDGE_MQTT_EMQX_API: "mqtt://emqx:18083" has the unknown scheme "mqtt"; write it like http://emqx:18083, or https://emqx:18084 for TLS`},
		"a path":     {[]string{"BRIDGE_MQTT_EMQX_API=http://emqx:18083/api/v5"}, `BRIDGE_MQTT_EMQX_API: "http://emqx:18083/api/v5" has more than a host and a port; write it like http://emqx:18083, or https://emqx:18084 for TLS`},
		"a colon":    {[]string{"BRIDGE_MQTT_EMQX_API=http://emqx:18083", "BRIDGE_MQTT_EMQX_KEY=k:s", "BRIDGE_MQTT_EMQX_SECRET=s"}, `BRIDGE_MQTT_EMQX_KEY: "k:s" contains a colon; write only the key, and put the secret in mqtt.emqx.secret_file`},
		"plain text": {[]string{"BRIDGE_MQTT_EMQX_API=http://emqx:18083", "BRIDGE_MQTT_EMQX_KEY=k", "BRIDGE_MQTT_EMQX_SECRET=s", "BRIDGE_MQTT_EMQX_CA=testdata/full.yaml"}, "BRIDGE_MQTT_EMQX_CA: contradicts mqtt.emqx.api, which is plain text; write https:// there, or remove this key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, []string{step.want}, errorsOf(t, Sources{Env: step.env}))
		})
	}
}
