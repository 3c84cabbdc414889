package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/pki"
)

// Row E12 of docs/emqx.md: an ACL that does not let the bridge read the attested topics refuses the
// filters of 16 lanes. The result is one line with the user name that EMQX saw.
func TestE12ACLRefusal(t *testing.T) {
	t.Parallel()
	ca, err := pki.New()
	require.NoError(t, err)
	server, err := ca.ServerConfig("127.0.0.1")
	require.NoError(t, err)
	cert, err := ca.Device("acme/bridge")
	require.NoError(t, err)
	files, err := pki.Write(t.TempDir(), "bridge", cert)
	require.NoError(t, err)
	caFile, err := ca.WriteCA(t.TempDir())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		ignored, certificate bool
		says, who            string
	}{
		"deny_action = ignore":     {ignored: true, says: "16 of 16 filters refused (SUBACK 0x80)", who: "user bridge"},
		"deny_action = disconnect": {says: "no answer to SUBSCRIBE ", who: "user bridge"},
		"by certificate":           {certificate: true, says: "no answer to SUBSCRIBE ", who: "user acme/bridge (the certificate's CN)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := broker.Open(broker.Options{
				Attest: true, Username: "bridge", Password: "secret", TLS: server.Clone(), Unloaded: broker.ACL, DenyIgnored: c.ignored,
			})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, b.Close()) })
			env := []string{"MQTT_URL=" + b.URL(), "BRIDGE_MQTT_USERNAME=bridge", "BRIDGE_MQTT_PASSWORD=secret"}
			if c.certificate {
				env = []string{
					"MQTT_URL=" + strings.Replace(b.TLSURL(), "ssl://", "mqtts://", 1),
					"BRIDGE_MQTT_TLS_CA=" + caFile, "BRIDGE_MQTT_TLS_CERT=" + files.Cert, "BRIDGE_MQTT_TLS_KEY=" + files.Key,
				}
			}
			out, r := checkBroker(t, env...)
			require.Equal(t, 1, r.Failed(), out)
			require.Equal(t, 1, strings.Count(out, "FAIL"), out)
			require.Contains(t, out, "FAIL  mqtt subscribe: "+c.says)
			require.Contains(t, out, c.who)
			require.NotContains(t, out, "mqtt broker", "its version is not known")
		})
	}
}
