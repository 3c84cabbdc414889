package operation

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// envelopeConfig is the documented configuration.
func envelopeConfig(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/envelope.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(page), "```yaml\n")
	require.True(t, ok)
	config, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	return config
}

// envelopeRig is a bridge with the documented configuration, between a device and a legacy
// consumer.
type envelopeRig struct {
	t        *testing.T
	attested bool
	js       natsjs.JetStream
	url      string // broker URL for devices
	at       time.Time
}

// newEnvelopeRig starts the rig. The attested bridge finds existing streams, the plain one
// creates its own.
func newEnvelopeRig(t *testing.T, attested bool) *envelopeRig {
	t.Helper()
	r := &envelopeRig{t: t, attested: attested, at: time.UnixMilli(1_795_435_200_123)}
	server := peers.NATSServer(t, peers.NATSOptions{})
	r.js = proof.ConnectNATS(t, server.URL)
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte(proof.BridgePassword+"\n"), 0o600))
	env := []string{
		"BRIDGE_NATS_URL=" + server.URL, "BRIDGE_MQTT_PASSWORD_FILE=" + password, "BRIDGE_STATE_DIR=" + t.TempDir(),
		"BRIDGE_LIMITS_DEVICE_RATE=0", "BRIDGE_ADMIN_LISTEN=", "BRIDGE_LOG_FORMAT=json",
	}
	sessions := 1
	if attested {
		sessions = 16
		b, err := broker.Open(broker.Options{
			Username: "bridge", Password: proof.BridgePassword, Attest: true, DeviceUsernames: true,
			Now: func() time.Time { return r.at },
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		r.url = b.URL()
		for _, kind := range []string{"telemetry", "shadow", "commands"} {
			_, err := r.js.CreateStream(t.Context(), natsjs.StreamConfig{Name: strings.ToUpper(kind), Subjects: []string{kind + ".>"}})
			require.NoError(t, err)
		}
	} else {
		m := peers.Mosquitto(t, peers.MosquittoOptions{Username: "bridge", Password: proof.BridgePassword})
		r.url = m.URL
		env = append(env, "BRIDGE_IDENTITY_MODE=off")
	}
	env = append(env, "BRIDGE_MQTT_URL="+strings.Replace(r.url, "tcp://", "mqtt://", 1))
	bridge := peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Config: envelopeConfig(t), Env: env})
	for said := 0; sessions > 0; sessions-- {
		said = bridge.Log().Await(t, said, "mqtt connected")
	}
	return r
}

// publish sends a message as tenant/device, attested by the broker if it attests.
func (r *envelopeRig) publish(tenant, device, rest string, payload []byte) {
	r.t.Helper()
	username, password := "bridge", proof.BridgePassword
	if r.attested {
		username, password = tenant+"/"+device, ""
	}
	c := paho.NewClient(paho.NewClientOptions().AddBroker(r.url).SetClientID(tenant + " " + device).
		SetUsername(username).SetPassword(password).SetProtocolVersion(4))
	proof.AwaitToken(r.t, c.Connect())
	defer c.Disconnect(100)
	proof.AwaitToken(r.t, c.Publish("tenant/"+tenant+"/device/"+device+"/"+rest, 1, false, payload))
}

// oldConsumer binds a legacy consumer, written without the bridge in mind, to a stream.
func (r *envelopeRig) oldConsumer(stream, filter string) natsjs.Consumer {
	r.t.Helper()
	c, err := r.js.CreateOrUpdateConsumer(r.t.Context(), stream, natsjs.ConsumerConfig{
		Durable: "old-ingest", AckPolicy: natsjs.AckExplicitPolicy, FilterSubject: filter,
	})
	require.NoError(r.t, err)
	return c
}

func next(t *testing.T, c natsjs.Consumer) natsjs.Msg {
	t.Helper()
	m, err := c.Next(natsjs.FetchMaxWait(testrun.Timeout))
	require.NoError(t, err)
	require.NoError(t, m.DoubleAck(t.Context()))
	return m
}

// fields returns an envelope's names in order, and each value as raw bytes.
func fields(t *testing.T, data []byte) (names []string, values map[string]string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(data)))
	open, err := d.Token()
	require.NoError(t, err)
	require.Equal(t, json.Delim('{'), open)
	values = map[string]string{}
	for d.More() {
		name, err := d.Token()
		require.NoError(t, err)
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
		names = append(names, name.(string))
		require.NotContains(t, values, name, "once")
		values[name.(string)] = string(value)
	}
	end, err := d.Token()
	require.NoError(t, err)
	require.Equal(t, json.Delim('}'), end)
	require.False(t, d.More())
	return names, values
}

// requireEnvelope compares an envelope with the published message. On plain topics, sent limits
// ts.
func (r *envelopeRig) requireEnvelope(m natsjs.Msg, tenant, device, rest, payload string, sent time.Time) {
	r.t.Helper()
	names, values := fields(r.t, m.Data())
	require.Equal(r.t, []string{"topic", "tenant_id", "device_id", "msg_type", "username", "payload", "ts"}, names)
	username := ""
	if r.attested {
		username = tenant + "/" + device
	}
	for name, want := range map[string]string{
		"topic": "tenant/" + tenant + "/device/" + device + "/" + rest, "tenant_id": tenant, "device_id": device,
		"msg_type": rest, "username": username,
	} {
		var got string // must be a string
		require.NoError(r.t, json.Unmarshal([]byte(values[name]), &got), name)
		require.Equal(r.t, want, got, name)
	}
	// The decoder has removed only the spaces around the value.
	require.Equal(r.t, strings.Trim(payload, " \t\r\n"), values["payload"])
	require.Contains(r.t, string(m.Data()), `"payload":`+payload+`,"ts":`)
	ts, err := strconv.ParseInt(values["ts"], 10, 64) // must be an integer
	require.NoError(r.t, err)
	if r.attested {
		require.Equal(r.t, r.at.UnixMilli(), ts, "the broker's")
		return
	}
	require.GreaterOrEqual(r.t, ts, sent.UnixMilli())
	require.LessOrEqual(r.t, ts, time.Now().UnixMilli())
}

func TestEnvelopeConsumer(t *testing.T) {
	t.Parallel()
	for _, attested := range []bool{true, false} {
		name := "plain"
		if attested {
			name = "attested"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newEnvelopeRig(t, attested)
			telemetry := r.oldConsumer("TELEMETRY", "telemetry.>")
			t.Run("JSON of every kind", func(t *testing.T) { jsonOfEveryKind(t, r, telemetry) })
			t.Run("names", func(t *testing.T) { everyName(t, r, telemetry) })
			t.Run("shadow and commands", func(t *testing.T) {
				for stream, c := range map[string]struct{ filter, rest string }{
					"SHADOW": {"shadow.>", "shadow/reported"}, "COMMANDS": {"commands.>", "commands/ack"},
				} {
					sent := time.Now()
					r.publish("acme", "dev-1", c.rest, []byte(`{"version":7}`))
					m := next(t, r.oldConsumer(stream, c.filter))
					require.Equal(t, strings.TrimSuffix(c.filter, ">")+"acme", m.Subject())
					r.requireEnvelope(m, "acme", "dev-1", c.rest, `{"version":7}`, sent)
				}
			})
			t.Run("no JSON", func(t *testing.T) { noJSON(t, r) })
			left, err := telemetry.Info(t.Context())
			require.NoError(t, err)
			require.Zero(t, left.NumPending, "nothing else came to the consumer")
		})
	}
}

func jsonOfEveryKind(t *testing.T, r *envelopeRig, consumer natsjs.Consumer) {
	for i, payload := range []string{
		`{"temperature":21.5,"ts":1700000000}`,
		`{"temperature":21.5}`, // without ts
		`{"ts":"2026-11-23T12:00:00Z"}`,
		`{"ts":null}`,
		`{}`, `[]`, `[1,"two",null,{"three":[3]}]`, `"text"`, `""`, `true`, `false`, `null`, `0`, `-0`, `-40.250`,
		`12345678901234567890123456789`, `0.1000000000000000055511151231257827`, `1E400`, `9007199254740993`,
		`{"a":{"b":{"c":{"d":[[[[1]]]]}}}}`,
		`{"city":"Zürich 東京 🌡","escaped":"\u00fc\ud83c\udf21\/","lone":"\ud800","nul":"\u0000"}`,
		`{"twice":1,"twice":2}`,
		"\n\t {\"a\" :\r\n 1 } \n",
		`{"topic":"tenant/victim/device/x/telemetry","tenant_id":"victim","device_id":"x","msg_type":"telemetry","username":"victim/x","payload":{},"ts":1}`,
		`{"payload":{"payload":{"ts":1}}}`,
		`"},\"tenant_id\":\"victim\""`,
		`{"html":"<&>","line":"\u2028` + "\u2028" + `"}`,
		`{"long":"` + strings.Repeat("x", 100_000) + `"}`,
	} {
		device := fmt.Sprintf("json-%d", i)
		sent := time.Now()
		r.publish("acme", device, "telemetry", []byte(payload))
		m := next(t, consumer)
		require.Equal(t, "telemetry.acme", m.Subject())
		r.requireEnvelope(m, "acme", device, "telemetry", payload, sent)
		if r.attested {
			require.Equal(t, "acme/"+device, m.Headers().Get("Bridge-Cn"))
			require.Equal(t, "2026-11-23T12:00:00.123Z", m.Headers().Get("Bridge-Time"))
		}
		require.Equal(t, "tenant/acme/device/"+device+"/telemetry", m.Headers().Get("Mqtt-Topic"))
		require.NotEmpty(t, m.Headers().Get("Nats-Msg-Id"))
	}
}

func everyName(t *testing.T, r *envelopeRig, consumer natsjs.Consumer) {
	for _, n := range [][3]string{
		{"acme", "telemetry", "telemetry"}, {"a.b", "dev 1", "c d"}, {`q"uote`, `back\slash`, "{}"}, {"ü", "東京", "🌡"}, {"<&>", "device", "device"},
	} {
		sent := time.Now()
		r.publish(n[0], n[1], n[2], []byte("1"))
		r.requireEnvelope(next(t, consumer), n[0], n[1], n[2], "1", sent)
	}
}

func noJSON(t *testing.T, r *envelopeRig) {
	rejected := r.oldConsumer("QUARANTINE", "quarantine.>")
	for i, payload := range []string{
		"", " ", "21.5 °C", "{", `{"a":1`, `{"a":1}}`, "{}{}", "{'a':1}", "NaN", "01", "{\"a\":\"\n\"}",
		"\x00\x01\x02\xff\xfe", `{"a":"` + "\xff" + `"}`, "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00",
	} {
		device := fmt.Sprintf("bad-%d", i)
		r.publish("acme", device, "telemetry", []byte(payload))
		m := next(t, rejected)
		require.Equal(t, "quarantine.bad_payload.telemetry.acme", m.Subject())
		require.Equal(t, []byte(payload), append([]byte{}, m.Data()...), "the device's bytes")
		require.Equal(t, "bad_payload", m.Headers().Get("Bridge-Reason"))
		require.Contains(t, m.Headers().Get("Bridge-Detail"), "the payload is not JSON")
		require.Equal(t, "tenant/acme/device/"+device+"/telemetry", m.Headers().Get("Mqtt-Topic"))
	}
}
