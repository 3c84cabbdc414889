package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/streamstatus"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

// gauges returns the values of one metric, keyed by the values of its labels.
func gauges(t *testing.T, g prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "mqttbridge_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			key := ""
			for _, l := range m.GetLabel() { // in the order of the label names
				key += "/" + l.GetValue()
			}
			all[key[1:]] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return all
}

func TestMetricsOfStreamsAndConsumers(t *testing.T) {
	t.Parallel()
	devices, server := attesting(t), embeddedNATS(t)
	b := run(t, append(peers(devices, server), "BRIDGE_STREAMS_SHADOW_MAX_BYTES=0")...)
	waitReady(t, b)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 4)
	publishFrom(t, devices, "acme/evil", "tenant/acme/device/dev-1/telemetry", 2)
	require.Eventually(t, func() bool { c := b.Totals(); return c.Received == 6 && c.InFlight == 0 }, testrun.Timeout, 5*time.Millisecond)

	r := b.Metrics()
	require.Equal(t, map[string]float64{"TELEMETRY": 4, "SHADOW": 0, "COMMANDS": 0, "QUARANTINE": 2}, gauges(t, r, "stream_messages"))
	require.Equal(t, float64(1<<30), gauges(t, r, "stream_limit_bytes")["QUARANTINE"])
	fill := gauges(t, r, "stream_fill_ratio")
	require.NotContains(t, fill, "SHADOW", "it has no limit")
	require.InEpsilon(t, gauges(t, r, "stream_bytes")["QUARANTINE"]/(1<<30), fill["QUARANTINE"], 1e-9)
	require.Zero(t, gauges(t, r, "stream_discards_new")["TELEMETRY"])
	require.Equal(t, map[string]float64{"ingest-workers/TELEMETRY": 4, "ingest-shadow/SHADOW": 0, "ingest-commands/COMMANDS": 0}, gauges(t, r, "consumer_lag"))

	consumer, err := b.control.js.Consumer(t.Context(), "TELEMETRY", "ingest-workers")
	require.NoError(t, err)
	batch, err := consumer.Fetch(3)
	require.NoError(t, err)
	for range 3 {
		<-batch.Messages()
	}
	b.Status(t.Context()) // reads the streams for the next scrape
	require.Equal(t, 3.0, gauges(t, r, "consumer_ack_pending")["ingest-workers/TELEMETRY"])
	require.Equal(t, 4.0, gauges(t, r, "consumer_lag")["ingest-workers/TELEMETRY"])

	require.NoError(t, b.control.js.DeleteStream(t.Context(), "SHADOW"))
	b.Status(t.Context())
	require.NotContains(t, gauges(t, r, "stream_messages"), "SHADOW", "what cannot be read is left out")
}

func TestMetricsOfTenants(t *testing.T) {
	t.Parallel()
	devices, server := attesting(t), embeddedNATS(t)
	b := run(t, append(peers(devices, server), "BRIDGE_METRICS_TENANTS=1")...)
	waitReady(t, b)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 4)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-2/telemetry", 2) // an impostor, counted under its own name
	require.Eventually(t, func() bool { c := b.Totals(); return c.Received == 6 && c.InFlight == 0 }, testrun.Timeout, 5*time.Millisecond)
	r := b.Metrics()
	require.Equal(t, map[string]float64{"acme": 6, "other": 0}, gauges(t, r, "tenant_received_total"))
	publishFrom(t, devices, "globex/dev-1", "tenant/globex/device/dev-1/telemetry", 3)
	require.Eventually(t, func() bool { c := b.Totals(); return c.Received == 9 && c.InFlight == 0 }, testrun.Timeout, 5*time.Millisecond)
	require.Equal(t, map[string]float64{"acme": 6, "other": 3}, gauges(t, r, "tenant_received_total"))
	require.Equal(t, map[string]float64{"acme": 4, "other": 3}, gauges(t, r, "tenant_stored_total"))
	require.Equal(t, map[string]float64{"acme": 2, "other": 0}, gauges(t, r, "tenant_rejected_total"))
}

func TestUnreadableStream(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, func(o *natsd.Options) {
		o.Users = []*natsd.User{{Username: "bridge", Password: "secret", Permissions: &natsd.Permissions{
			Publish: &natsd.SubjectPermission{Deny: []string{"$JS.API.STREAM.INFO.>"}},
		}}}
	})
	c, err := openControl(conn.Options{URL: s.URL(), User: "bridge", Password: "secret"}, func(error) {}, zerolog.Nop())
	require.NoError(t, err)
	defer c.nc.Close()
	require.Eventually(t, c.connected, testrun.Timeout, time.Millisecond)
	const want = "not available: the NATS user may not publish to $JS.API.STREAM.INFO.TELEMETRY"
	reader := streamstatus.New(streamstatus.Options{
		JetStream: c.js, Denied: &c.denied, Streams: []streams.Spec{{Name: "TELEMETRY"}},
	})
	require.Equal(t, want, reader.Read(t.Context())[0].Problem)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, want, reader.Read(ended)[0].Problem, "nats-server logs each refusal: not asked again at each scrape")
}

// clientCertificate writes a certificate and its key.
func clientCertificate(t *testing.T, cert, key string, notAfter time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	der, err = x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

func TestCertificateExpiry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	first, second := time.Unix(1_900_000_000, 0), time.Unix(2_000_000_000, 0)
	clientCertificate(t, cert, key, first)
	b := run(t, "MQTT_URL=mqtts://"+nowhere, "NATS_URL=tls://"+nowhere, "BRIDGE_STREAMS_MANAGE=off",
		"BRIDGE_MQTT_TLS_CERT="+cert, "BRIDGE_MQTT_TLS_KEY="+key, "BRIDGE_NATS_TLS_CERT="+cert, "BRIDGE_NATS_TLS_KEY="+key,
		"BRIDGE_IDENTITY_REGISTRY_KIND=postgres", "BRIDGE_IDENTITY_REGISTRY_DATABASE_URL=postgres://bridge@"+nowhere+"/db?sslmode=require&sslcert="+cert+"&sslkey="+key)
	expiries := func() map[string]float64 {
		return gauges(t, b.Metrics(), "certificate_expiry_timestamp_seconds")
	}
	require.Equal(t, map[string]float64{"mqtt": float64(first.Unix()), "nats": float64(first.Unix()), "registry": float64(first.Unix())}, expiries())
	clientCertificate(t, cert, key, second)
	require.Equal(t, map[string]float64{"mqtt": float64(second.Unix()), "nats": float64(second.Unix()), "registry": float64(second.Unix())}, expiries(), "the file was replaced")
	require.NoError(t, os.Remove(cert))
	require.Empty(t, expiries())
}
