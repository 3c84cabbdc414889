package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	processes "mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/testrun"
)

// rotated contains the files of a broker and of a bridge; replace rewrites them.
type rotated struct {
	t           *testing.T
	dir         string
	ca          *pki.Authority
	caFile      string // of the bridge
	brokerCA    string
	server      pki.Files
	client      pki.Files
	password    string
	passwordsAt string
}

func newRotated(t *testing.T) *rotated {
	t.Helper()
	r := &rotated{t: t, dir: t.TempDir(), passwordsAt: filepath.Join(t.TempDir(), "passwords")}
	r.password = filepath.Join(r.dir, "password")
	r.renewBroker("old")
	r.renewBridge("old")
	return r
}

// renewBroker gives the broker a certificate of a new CA, and the user another password.
func (r *rotated) renewBroker(password string) {
	r.t.Helper()
	var err error
	r.ca, err = pki.New()
	require.NoError(r.t, err)
	r.brokerCA, err = r.ca.WriteCA(filepath.Dir(r.passwordsAt))
	require.NoError(r.t, err)
	certificate, err := r.ca.Server("127.0.0.1")
	require.NoError(r.t, err)
	r.server, err = pki.Write(filepath.Dir(r.passwordsAt), "server", certificate)
	require.NoError(r.t, err)
	processes.MosquittoPasswords(r.t, r.passwordsAt, "bridge", password)
}

func (r *rotated) renewBridge(password string) {
	r.t.Helper()
	var err error
	r.caFile, err = r.ca.WriteCA(r.dir)
	require.NoError(r.t, err)
	certificate, err := r.ca.Device("bridge")
	require.NoError(r.t, err)
	r.client, err = pki.Write(r.dir, "bridge", certificate)
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(r.password, []byte(password+"\n"), 0o600))
}

// TestBrokerCredentialRotation replaces the broker's CA, the client certificates and the
// password. The bridge reads its changed files without a restart and without SIGHUP.
func TestBrokerCredentialRotation(t *testing.T) {
	t.Parallel()
	r := newRotated(t)
	broker := processes.Mosquitto(t, processes.MosquittoOptions{
		CAFile: r.brokerCA, CertFile: r.server.Cert, KeyFile: r.server.Key,
		Extra: []string{"use_identity_as_username false", "allow_anonymous false", "password_file " + r.passwordsAt},
	})
	env := []string{
		"MQTT_URL=" + strings.Replace(broker.URL, "ssl:", "mqtts:", 1), "NATS_URL=" + embeddedNATS(t).URL(),
		"BRIDGE_IDENTITY_MODE=off", "BRIDGE_MQTT_USERNAME=bridge", "BRIDGE_MQTT_PASSWORD_FILE=" + r.password,
		"BRIDGE_MQTT_TLS_CA=" + r.caFile, "BRIDGE_MQTT_TLS_CERT=" + r.client.Cert, "BRIDGE_MQTT_TLS_KEY=" + r.client.Key,
	}
	b := run(t, env...)
	waitReady(t, b)

	broker.Stop()
	r.renewBroker("new")
	broker.Start()
	problem := func(text string) func() bool {
		return func() bool {
			found := b.Problems()
			return len(found) > 0 && strings.Contains(found[0].Problem, text)
		}
	}
	require.Eventually(t, problem("certificate"), testrun.Timeout, 5*time.Millisecond)
	r.renewBridge("wrong")
	require.Eventually(t, problem("refuse"), testrun.Timeout, 5*time.Millisecond)
	r.renewBridge("new")
	waitReady(t, b)

	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	changed, restart, err := b.Reload(c)
	require.NoError(t, err)
	require.Equal(t, []string{"mqtt.password"}, changed)
	require.Empty(t, restart)
}
