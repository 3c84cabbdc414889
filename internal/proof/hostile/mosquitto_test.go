package hostile

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/wire"
	"mqtt-nats-bridge/jetstream/embedded"
)

// guardedRig is a real mosquitto with the bridge on plain topics. User names come from
// certificates, and an ACL limits each user to its own topics.
type guardedRig struct {
	t      testing.TB
	ca     *pki.Authority
	broker *peers.MosquittoProcess
	js     natsjs.JetStream
	config proof.Settings
}

func newGuardedRig(t testing.TB, devices ...string) *guardedRig {
	t.Helper()
	r := &guardedRig{t: t}
	dir := t.TempDir()
	var err error
	r.ca, err = pki.New()
	require.NoError(t, err)
	ca, err := r.ca.WriteCA(dir)
	require.NoError(t, err)
	write := func(name string, cert tls.Certificate, err error) pki.Files {
		require.NoError(t, err)
		files, err := pki.Write(dir, name, cert)
		require.NoError(t, err)
		return files
	}
	server, err := r.ca.Server()
	serverFiles := write("server", server, err)
	own, err := r.ca.Device("bridge")
	bridgeFiles := write("bridge", own, err)
	acl := "user bridge\ntopic read tenant/#\n"
	for _, name := range devices {
		tenant, device, _ := strings.Cut(name, "/")
		acl += fmt.Sprintf("user %s\ntopic write tenant/%s/device/%s/#\n", name, tenant, device)
	}
	aclFile := filepath.Join(dir, "acl")
	require.NoError(t, os.WriteFile(aclFile, []byte(acl), 0o600))
	r.broker = peers.Mosquitto(t, peers.MosquittoOptions{
		CAFile: ca, CertFile: serverFiles.Cert, KeyFile: serverFiles.Key, Extra: []string{"acl_file " + aclFile},
	})
	nats := proof.StartJetStream(t, embedded.Options{})
	r.js = proof.ConnectNATS(t, nats.URL())
	r.config = proof.Settings{
		"mqtt.url": "mqtts://" + r.broker.Addr, "mqtt.tls.ca": ca, "mqtt.tls.cert": bridgeFiles.Cert, "mqtt.tls.key": bridgeFiles.Key,
		"nats.url": nats.URL(), "identity.mode": "off",
	}
	return r
}

func (r *guardedRig) start() *daemon.Bridge {
	r.t.Helper()
	b := proof.StartInProcess(r.t, r.config)
	proof.AwaitReady(r.t, b)
	return b
}

func (r *guardedRig) device(cn string) *rawDevice {
	r.t.Helper()
	certificate, err := r.ca.ClientConfig(cn)
	require.NoError(r.t, err)
	return dialRaw(r.t, r.broker.Addr, certificate, cn)
}

func TestHostileDeviceBehindACL(t *testing.T) {
	t.Parallel()
	r := newGuardedRig(t, "acme/dev-1", "acme/*", "acme/%2A", "acme/gerät", "acme/witness")
	b := r.start()
	one := func(topic string) []byte { return rawPublish(wire.QoS1, topic, 1, "x") }
	own := "tenant/acme/device/dev-1/"
	for _, c := range []struct {
		name, cn string
		packets  []byte
		ended    bool // mosquitto ends the connection
		denied   bool // 2.0.11 does that here too, other versions acknowledge and drop
		want     []string
	}{
		{name: "its own topic", cn: "acme/dev-1", packets: one(own + "telemetry"), want: []string{"tenant.acme.device.dev-1.telemetry x"}},
		{name: "another's topic", cn: "acme/dev-1", packets: rawPublish(wire.Dup|wire.QoS1|wire.Retain, "tenant/acme/device/dev-2/telemetry", 1, "x"), denied: true},
		{name: "a name that begins like another's", cn: "acme/dev-1", packets: one("tenant/acme/device/dev-11/telemetry"), denied: true},
		{name: "a device without an entry", cn: "acme/+", packets: one("tenant/acme/device/dev-1/telemetry"), denied: true},
		{name: "topics of the broker's own", cn: "acme/dev-1", packets: rawPublish(0, "$SYS/broker/uptime", 0, "x"), denied: true},
		{name: "attested topics", cn: "acme/dev-1", packets: one("bridge/v1/d/A/1/61/" + own + "telemetry"), denied: true},
		{name: "plus in a topic name", cn: "acme/dev-1", packets: one(own + "+"), ended: true},
		{name: "NUL in a topic name", cn: "acme/dev-1", packets: one(own + "\x00"), ended: true},
		{name: "a control character", cn: "acme/dev-1", packets: one(own + "a\x01"), ended: true},
		{name: "NATS wildcards as names", cn: "acme/*", packets: one("tenant/acme/device/*/>"), want: []string{"tenant.acme.device.%2A.%3E x"}},
		{name: "percent signs", cn: "acme/%2A", packets: one("tenant/acme/device/%2A/%"), want: []string{"tenant.acme.device.%252A.%25 x"}},
		{name: "a name in Unicode", cn: "acme/gerät", packets: one("tenant/acme/device/gerät/temp"), want: []string{"tenant.acme.device.ger%C3%A4t.temp x"}},
		{name: "the longest topic of MQTT", cn: "acme/dev-1", packets: one(own + strings.Repeat("x", 65_535-len(own))), want: []string{"quarantine.bad_topic x"}},
		{name: "128 levels", cn: "acme/dev-1", packets: one(own + strings.Repeat("x/", 124))},
		{name: "more levels than mosquitto takes", cn: "acme/dev-1", packets: one(own + strings.Repeat("x/", 1000)), ended: true},
		{name: "DUP on what is new", cn: "acme/dev-1", packets: bytes.Join([][]byte{rawPublish(wire.Dup|wire.QoS1, own+"dup", 7, "a"), rawPublish(wire.Dup|wire.QoS1, own+"dup", 7, "a"), rawPublish(wire.Dup|wire.QoS1, own+"dup", 7, "b")}, nil),
			want: []string{"tenant.acme.device.dev-1.dup a", "tenant.acme.device.dev-1.dup a", "tenant.acme.device.dev-1.dup b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := map[string]int{}
			each := func(take func(string)) {
				for _, stream := range []string{"TELEMETRY", "SHADOW", "COMMANDS", "QUARANTINE"} {
					proof.ReadStream(t, r.js, stream, func(m natsjs.Msg, _ *natsjs.MsgMetadata) { take(m.Subject() + " " + string(m.Data())) })
				}
			}
			each(func(m string) { seen[m]++ })
			_, open := r.device(c.cn).send(c.packets)
			if !c.denied {
				require.Equal(t, c.ended, !open, "mosquitto ends the connection")
			}
			_, open = r.device("acme/witness").send(rawPublish(wire.QoS1, "tenant/acme/device/witness/telemetry", 1, c.name))
			require.True(t, open)
			proof.Eventually(t, func() bool {
				return string(proof.AwaitMessage(t, r.js, "TELEMETRY", "tenant.acme.device.witness.telemetry").Data) == c.name
			}, func() any { return b.Problems() })
			var got []string
			each(func(m string) {
				if seen[m]--; seen[m] < 0 && !strings.Contains(m, ".witness.") {
					got = append(got, m)
				}
			})
			require.Equal(t, c.want, got)
		})
	}
}

// The broker sends copies of retained messages on every subscribe. A device with thousands of
// them can neither fill a stream nor block its lane.
func TestRetainedFlood(t *testing.T) {
	t.Parallel()
	n := 2000
	r := newGuardedRig(t, "acme/hoarder", "acme/witness")
	d := r.device("acme/hoarder")
	for sent := 0; sent < n; sent += 100 {
		var batch []byte
		for i := range 100 {
			batch = append(batch, rawPublish(wire.QoS1|wire.Retain, fmt.Sprintf("tenant/acme/device/hoarder/t%d", sent+i), uint16(i+1), "stale")...)
		}
		acks, open := d.send(batch)
		require.True(t, open)
		require.Equal(t, 100, acks)
	}
	b := r.start()
	_, open := r.device("acme/witness").send(rawPublish(wire.QoS1, "tenant/acme/device/witness/telemetry", 1, "x"))
	require.True(t, open)
	proof.AwaitMessage(t, r.js, "TELEMETRY", "tenant.acme.device.witness.telemetry")
	proof.Eventually(t, func() bool { return b.Totals().RetainedSkipped == uint64(n) }, func() any { return b.Totals() })
	_, open = r.device("acme/hoarder").send(rawPublish(wire.QoS1|wire.Retain, "tenant/acme/device/hoarder/t0", 1, "fresh"))
	require.True(t, open)
	require.Equal(t, "fresh", string(proof.AwaitMessage(t, r.js, "TELEMETRY", "tenant.acme.device.hoarder.t0").Data), "what it publishes now is no copy")
	stream, err := r.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	require.EqualValues(t, 2, stream.CachedInfo().State.Msgs)
}
