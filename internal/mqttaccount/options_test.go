package mqttaccount

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/mqtt/dial"
)

// TestLogin checks that a file's content is read at each connect.
func TestLogin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		return file
	}
	const tlsData = "../tlsfile/testdata/"
	key, err := os.ReadFile(tlsData + "pkcs8-aes256-sha256.pem")
	require.NoError(t, err)
	secret, passphrase, keyFile := write("secret", "old\n"), write("passphrase", "correct-horse\n"), write("key.pem", string(key))
	c, err := config.Load(config.Sources{Env: []string{
		"MQTT_URL=mqtts://localhost", "BRIDGE_MQTT_USERNAME=u", "BRIDGE_MQTT_PASSWORD_FILE=" + secret,
		"BRIDGE_MQTT_TLS_CA=" + tlsData + "client.crt", "BRIDGE_MQTT_TLS_CERT=" + tlsData + "client.crt",
		"BRIDGE_MQTT_TLS_KEY=" + keyFile, "BRIDGE_MQTT_TLS_PASSPHRASE_FILE=" + passphrase,
	}})
	require.NoError(t, err)
	o := Options(c.MQTT, "bridge-0")
	require.Equal(t, []dial.Server{{Address: "localhost:8883", TLS: true}}, o.Servers)
	login, err := o.Login()
	require.NoError(t, err)
	require.Equal(t, "old", login.Password)
	require.NotNil(t, login.TLS.RootCAs)

	write("secret", "new")
	login, err = o.Login()
	require.NoError(t, err)
	require.Equal(t, "new", login.Password)

	write("passphrase", "wrong")
	_, err = o.Login()
	require.ErrorIs(t, err, tlsfile.ErrPassphrase)
	write("passphrase", "correct-horse")
	require.NoError(t, os.Remove(secret))
	_, err = o.Login()
	require.ErrorContains(t, err, "read mqtt.password_file: the file "+`"`+secret+`" does not exist`)
}
