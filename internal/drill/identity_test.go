package drill

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/plan"
)

// directory creates a directory with one certificate per CN, in files whose names do not
// contain the CN.
func directory(t *testing.T, cns ...string) (certs, ca string) {
	t.Helper()
	authority, err := pki.New()
	require.NoError(t, err)
	ca, err = authority.WriteCA(t.TempDir())
	require.NoError(t, err)
	certs = t.TempDir()
	for i, cn := range cns {
		cert, err := authority.Device(cn)
		require.NoError(t, err)
		_, err = pki.Write(certs, "t_d_"+string(rune('a'+i)), cert)
		require.NoError(t, err)
	}
	return certs, ca
}

func checked(t *testing.T, certs, ca string) *Options {
	t.Helper()
	c, err := config.Load(config.Sources{})
	require.NoError(t, err)
	plan, err := plan.Compile(c)
	require.NoError(t, err)
	o := &Options{
		Broker: brokerURL(t, "mqtts://127.0.0.1"), CACert: ca, Certs: certs, Settle: DefaultSettle,
		Devices: 10, Rate: 20, Window: 1, KeepAlive: DefaultKeepAlive, Tenant: DefaultTenant, Topic: DefaultTopic,
		Topics: plan.Rules.Topics, DeviceRate: plan.Limits.Device.Rate,
	}
	require.NoError(t, o.Check())
	return o
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	t.Run("read from directory", testReadFromDirectory)
	t.Run("invalid options are refused", testInvalidOptionsAreRefused)
}

func testReadFromDirectory(t *testing.T) {
	t.Parallel()
	certs, ca := directory(t, "acme/dev_2", "acme/dev_1", "globex/x_y", "initech/z")
	o := checked(t, certs, ca)
	o.Burst, o.Will = 10, true
	c, err := identities(o)
	require.NoError(t, err)
	require.Equal(t, "initech/z", c.burst.CN)
	require.Equal(t, "globex/x_y", c.other.CN)
	require.Len(t, c.fleet, 2)
	require.Equal(t, "acme/dev_1", c.fleet[0].CN)
	require.Equal(t, "tenant/acme/device/dev_1/telemetry", o.topic(c.fleet[0]))
	require.NotEmpty(t, c.fleet[0].TLS.Certificates)
	require.NotNil(t, c.fleet[0].TLS.RootCAs)
	require.Equal(t, 2, o.Devices)
}

func testInvalidOptionsAreRefused(t *testing.T) {
	t.Parallel()
	certs, ca := directory(t, "acme/a", "acme/b")
	o := checked(t, certs, ca)
	o.Burst, o.Hijack, o.LaneClientID = 1, true, "bridge-p0"
	_, err := identities(o)
	require.ErrorContains(t, err, "too few in "+certs)

	o = checked(t, certs, ca)
	o.Rate, o.DeviceRate = 50, 10
	_, err = identities(o)
	require.ErrorContains(t, err, "--rate 50 with 2 devices is 25.0 messages per second per device")

	certs, ca = directory(t, "server")
	_, err = identities(checked(t, certs, ca))
	require.ErrorContains(t, err, `its CN "server" is not tenant/device`)
}
