package hostile

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
	"mqtt-nats-bridge/subjects"
)

// rawDevice writes MQTT 3.1.1 byte by byte, so that it can send packets that no client library
// would.
type rawDevice struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// rawDevice connects over mutual TLS with a certificate for this common name. will, if set, is
// the topic and payload of a will at QoS 1.
func (r *attestedRig) rawDevice(cn string, will ...string) *rawDevice {
	r.t.Helper()
	certificate, err := r.ca.ClientConfig(cn)
	require.NoError(r.t, err)
	return dialRaw(r.t, strings.TrimPrefix(r.broker.TLSURL(), "ssl://"), certificate, cn, will...)
}

func dialRaw(t testing.TB, addr string, certificate *tls.Config, cn string, will ...string) *rawDevice {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: testrun.Timeout}, "tcp", addr, certificate)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*testrun.Timeout)))
	d := &rawDevice{t: t, conn: conn, in: bufio.NewReader(conn)}
	connect := wire.Connect{ClientID: "raw " + cn}
	if len(will) > 0 {
		connect.Will = &wire.Will{Topic: will[0], Payload: []byte(will[1])}
	}
	present, err := connect.Handshake(conn)
	require.NoError(t, err)
	require.False(t, present)
	return d
}

// send writes packets and a PINGREQ. It returns the number of acknowledgements before the
// PINGRESP, and whether a PINGRESP arrived. If not, the broker has ended the connection.
func (d *rawDevice) send(packets []byte) (acks int, open bool) {
	d.t.Helper()
	var write error
	var both sync.WaitGroup
	both.Go(func() { _, write = d.conn.Write(append(bytes.Clone(packets), 0xc0, 0)) })
	for {
		first, _, err := wire.Read(d.in)
		if err != nil {
			d.conn.Close()
			both.Wait()
			return acks, false
		}
		switch first >> 4 {
		case 4, 5: // PUBACK, PUBREC
			acks++
		case 13:
			both.Wait()
			require.NoError(d.t, write)
			return acks, true
		}
	}
}

// rawPublish encodes a PUBLISH with any flags; id 0 writes no packet id.
func rawPublish(flags byte, topic string, id uint16, payload string) []byte {
	return wire.AppendPublish(nil, flags, topic, id, []byte(payload))
}

// kept is a stored message.
type kept struct {
	stream, subject, payload string
	header                   map[string][]string
}

// sameLane returns a device in the same lane.
func sameLane(cn string) (tenant, device string) {
	for i := 0; ; i++ {
		device = fmt.Sprintf("witness-%d", i)
		if broker.Partition("acme/"+device) == broker.Partition(cn) {
			return "acme", device
		}
	}
}

// streamMarks is the last sequence read from each stream.
type streamMarks map[string]uint64

// since returns the messages stored since the last call, without those of witnesses.
func (r *attestedRig) since(marks streamMarks) (all []kept) {
	r.t.Helper()
	for _, name := range []string{"TELEMETRY", "SHADOW", "COMMANDS", "QUARANTINE"} {
		s, err := r.js.Stream(r.t.Context(), name)
		if errors.Is(err, natsjs.ErrStreamNotFound) {
			continue // not configured in this run
		}
		require.NoError(r.t, err)
		for last := s.CachedInfo().State.LastSeq; marks[name] < last; {
			marks[name]++
			m, err := s.GetMsg(r.t.Context(), marks[name])
			require.NoError(r.t, err)
			if strings.Contains(m.Subject, ".witness-") {
				continue
			}
			for _, added := range []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"} {
				m.Header.Del(added) // added by a direct get
			}
			all = append(all, kept{name, m.Subject, string(m.Data), m.Header})
		}
	}
	return all
}

// requireWitness requires that another device of the same lane is still served. It returns when
// no message of the lane is in flight.
func (r *attestedRig) requireWitness(cn, saying string) {
	r.t.Helper()
	tenant, device := sameLane(cn)
	w := r.device(tenant + "/" + device)
	proof.AwaitToken(r.t, w.Publish("tenant/"+tenant+"/device/"+device+"/telemetry", 1, false, saying))
	proof.Eventually(r.t, func() bool {
		return string(proof.AwaitMessage(r.t, r.js, "TELEMETRY", "tenant."+tenant+".device."+device+".telemetry").Data) == saying
	}, func() any { return r.bridge.Problems() })
	w.Disconnect(0)
	proof.Eventually(r.t, func() bool { return r.bridge.Totals().InFlight == 0 && r.pending() == 0 }, func() any { return r.bridge.Totals() })
}

// requireOwnSubject requires that the message's subject is that of the attested device.
func requireOwnSubject(t testing.TB, m kept) {
	t.Helper()
	topic, err := subjects.ToTopic(m.subject)
	require.NoError(t, err)
	levels := strings.Split(topic, "/")
	require.GreaterOrEqual(t, len(levels), 5)
	require.Equal(t, []string{levels[1] + "/" + levels[3]}, m.header["Bridge-Cn"], "under a foreign subject: %s", m.subject)
}

// Attacks by a device with a valid certificate, on a broker that withholds only the attested
// topics themselves. Each case checks the result, and that another device of the same lane is
// still served.
func TestHostileDevice(t *testing.T) {
	t.Parallel()
	r := newAttestedRig(t, nil)
	const victim = "tenant/acme/device/victim/telemetry"
	longest := func(size int) string {
		const begin = "tenant/acme/device/long/"
		return begin + strings.Repeat("x", size-len(begin))
	}
	attested := len("bridge/v1/d/000660F22358AE4BB44B000005020002/1795442951630//") + 2*len("acme/long")
	deep := "tenant/acme/device/deep" + strings.Repeat("/x", 124)
	forged := broker.Attest("bridge/v1", "000660F22358AE4BB44B000005020002", r.at, "acme/victim", victim)
	own := broker.Attest("bridge/v1", "000660F22358AE4BB44B000005020003", r.at, "acme/forger", "tenant/acme/device/forger/telemetry")
	const injection = "t\x01\r\nNats-Msg-Id: forged\r\nBridge-Cn: victim\r\n\r\nNATS\x7f"
	const likeAnEnvelope = `{"topic":"` + victim + `","tenant_id":"acme","device_id":"victim","msg_type":"telemetry","username":"acme/victim","payload":{},"ts":1}`
	const likeAPubAck = "x\r\nMSG _INBOX.a.1.1 1 22\r\n{\"stream\":\"T\",\"seq\":1}\r\n"

	one := func(topic string) []byte { return rawPublish(wire.QoS1, topic, 1, "x") }
	join := func(packets ...[]byte) []byte { return bytes.Join(packets, nil) }
	for _, c := range []struct {
		name, cn string
		packets  []byte
		acks     int
		ended    bool         // the broker ends the connection
		want     []string     // "STREAM subject payload"
		broker   broker.Stats // expected increase of the broker's counters
	}{
		{name: "another's topic, all flags set", cn: "acme/thief", packets: rawPublish(wire.Dup|wire.QoS1|wire.Retain, victim, 1, "x"), acks: 1,
			want: []string{"QUARANTINE quarantine.cn_mismatch.tenant.acme.device.victim.telemetry x"}, broker: broker.Stats{Attested: 1}},
		{name: "another's shadow and commands", cn: "acme/thief-2", packets: join(one("tenant/acme/device/victim/shadow/reported"), one("tenant/acme/device/victim/commands/ack")), acks: 2,
			want: []string{"QUARANTINE quarantine.cn_mismatch.tenant.acme.device.victim.shadow.reported x", "QUARANTINE quarantine.cn_mismatch.tenant.acme.device.victim.commands.ack x"}, broker: broker.Stats{Attested: 2}},
		{name: "the longest topic of MQTT", cn: "acme/long", packets: one(longest(65_535)), acks: 1, broker: broker.Stats{Failed: 1}},
		{name: "the longest topic that can be attested", cn: "acme/long", packets: one(longest(65_535 - attested)), acks: 1,
			want: []string{"QUARANTINE quarantine.bad_topic x"}, broker: broker.Stats{Attested: 1}},
		{name: "128 levels", cn: "acme/deep", packets: one(deep), acks: 1,
			want: []string{"QUARANTINE quarantine.bad_topic x"}, broker: broker.Stats{Attested: 1}},
		{name: "topics of the broker's own", cn: "acme/system", packets: join(rawPublish(0, "$SYS/broker/uptime", 0, "x"), rawPublish(0, "$share/g/"+victim, 0, "x"), rawPublish(0, "$JS/API/STREAM/DELETE/TELEMETRY", 0, "x"), rawPublish(0, "$KV/BRIDGE_LIMITS/tenant/acme", 0, "x"))},
		{name: "a dollar in its own topic", cn: "acme/$JS", packets: one("tenant/acme/device/$JS/$JS.API.STREAM.DELETE.TELEMETRY"), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.$JS.$JS%2EAPI%2ESTREAM%2EDELETE%2ETELEMETRY x"}, broker: broker.Stats{Attested: 1}},
		{name: "a dollar where a subject begins", cn: "$SYS/REQ", packets: one("$SYS.REQ/x/device/y/z")}, // matches no filter; its acks are not checked
		{name: "plus in a topic name", cn: "acme/plus", packets: one("tenant/acme/device/+/telemetry"), ended: true},
		{name: "number sign in a topic name", cn: "acme/number", packets: one("tenant/acme/device/#"), ended: true},
		{name: "NATS wildcards as names", cn: "acme/*", packets: one("tenant/acme/device/*/>"), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.%2A.%3E x"}, broker: broker.Stats{Attested: 1}},
		{name: "NATS wildcards as tenant", cn: "*/>", packets: one("tenant/*/device/>/telemetry"), acks: 1,
			want: []string{"TELEMETRY tenant.%2A.device.%3E.telemetry x"}, broker: broker.Stats{Attested: 1}},
		{name: "percent signs", cn: "acme/%2A", packets: one("tenant/acme/device/%2A/%"), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.%252A.%25 x"}, broker: broker.Stats{Attested: 1}},
		{name: "dots that would be more tokens", cn: "acme/victim.telemetry", packets: one("tenant/acme/device/victim.telemetry/x"), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.victim%2Etelemetry.x x"}, broker: broker.Stats{Attested: 1}},
		{name: "control characters and header lines", cn: "acme/control", packets: one("tenant/acme/device/control/" + injection), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.control.t%01%0D%0ANats-Msg-Id:%20forged%0D%0ABridge-Cn:%20victim%0D%0A%0D%0ANATS%7F x"}, broker: broker.Stats{Attested: 1}},
		{name: "NUL in a topic", cn: "acme/nul", packets: one("tenant/acme/device/nul/\x00"), ended: true},
		{name: "a topic that is no UTF-8", cn: "acme/latin", packets: one("tenant/acme/device/latin/\xe4"), ended: true},
		{name: "an empty topic", cn: "acme/empty", packets: one(""), ended: true},
		{name: "a payload like an envelope", cn: "acme/envelope", packets: rawPublish(wire.QoS1, "tenant/acme/device/envelope/telemetry", 1, likeAnEnvelope), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.envelope.telemetry " + likeAnEnvelope}, broker: broker.Stats{Attested: 1}},
		{name: "a payload like a PubAck", cn: "acme/puback", packets: rawPublish(wire.QoS1, "tenant/acme/device/puback/telemetry", 1, likeAPubAck), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.puback.telemetry " + likeAPubAck}, broker: broker.Stats{Attested: 1}},
		{name: "DUP on what is new", cn: "acme/dup", packets: join(rawPublish(wire.Dup|wire.QoS1, "tenant/acme/device/dup/telemetry", 7, "a"), rawPublish(wire.Dup|wire.QoS1, "tenant/acme/device/dup/telemetry", 7, "a"), rawPublish(wire.Dup|wire.QoS1, "tenant/acme/device/dup/telemetry", 7, "b")), acks: 3,
			want: []string{"TELEMETRY tenant.acme.device.dup.telemetry a", "TELEMETRY tenant.acme.device.dup.telemetry a", "TELEMETRY tenant.acme.device.dup.telemetry b"}, broker: broker.Stats{Attested: 3}},
		{name: "QoS 2", cn: "acme/two", packets: join(rawPublish(wire.QoS2, "tenant/acme/device/two/telemetry", 9, "x"), []byte{0x62, 2, 0, 9}), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.two.telemetry x"}, broker: broker.Stats{Attested: 1}},
		{name: "attested topics, victim's name and own", cn: "acme/forger", packets: join(one(forged.Render()), one(own.Render()), rawPublish(0, "bridge", 0, "x")), acks: 2, broker: broker.Stats{Denied: 3}},
		{name: "an attested topic within its own", cn: "acme/nest", packets: one("tenant/acme/device/nest/" + forged.Render()), acks: 1,
			want: []string{"QUARANTINE quarantine.bad_topic x"}, broker: broker.Stats{Attested: 1}},
		{name: "a name in Unicode", cn: "acme/gerät", packets: one("tenant/acme/device/gerät/temp"), acks: 1,
			want: []string{"TELEMETRY tenant.acme.device.ger%C3%A4t.temp x"}, broker: broker.Stats{Attested: 1}},
		{name: "a name that only looks the same", cn: "acme/gera\u0308t", packets: one("tenant/acme/device/gerät/temp"), acks: 1,
			want: []string{"QUARANTINE quarantine.cn_mismatch.tenant.acme.device.ger%C3%A4t.temp x"}, broker: broker.Stats{Attested: 1}},
		{name: "a name with an invisible character", cn: "acme/vic\u200btim", packets: one(victim), acks: 1,
			want: []string{"QUARANTINE quarantine.cn_mismatch.tenant.acme.device.victim.telemetry x"}, broker: broker.Stats{Attested: 1}},
		{name: "two dots", cn: "../..", packets: one("tenant/../device/../telemetry"), acks: 1,
			want: []string{"TELEMETRY tenant.%2E%2E.device.%2E%2E.telemetry x"}, broker: broker.Stats{Attested: 1}},
		{name: "two dots towards another", cn: "globex/../acme/victim", packets: one(victim), acks: 1,
			want: []string{"QUARANTINE quarantine.cn_mismatch.tenant.acme.device.victim.telemetry x"}, broker: broker.Stats{Attested: 1}},
		{name: "the word for no name", cn: "undefined", packets: one(victim), acks: 1,
			want: []string{"QUARANTINE quarantine.cn_missing.tenant.acme.device.victim.telemetry x"}, broker: broker.Stats{Attested: 1}},
		{name: "half a PUBLISH", cn: "acme/half", packets: rawPublish(wire.QoS1, "tenant/acme/device/half/telemetry", 1, strings.Repeat("x", 3000))[:1000], ended: true},
		{name: "a packet of 256 MB", cn: "acme/giant", packets: []byte{0x32, 0xff, 0xff, 0xff, 0x7f}, ended: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			marks := streamMarks{}
			r.since(marks)
			before := r.broker.Stats()
			d := r.rawDevice(c.cn)
			if c.name == "half a PUBLISH" {
				_, err := d.conn.Write(c.packets)
				require.NoError(t, err)
				d.conn.Close()
			} else {
				acks, open := d.send(c.packets)
				require.Equal(t, c.ended, !open, "the broker ends the connection")
				if c.want != nil || c.acks > 0 {
					require.Equal(t, c.acks, acks)
				}
			}
			after := r.broker.Stats()
			r.requireWitness(c.cn, c.name)
			var got []string
			for _, m := range r.since(marks) {
				got = append(got, m.stream+" "+m.subject+" "+m.payload)
				if m.stream != "QUARANTINE" {
					requireOwnSubject(t, m)
				}
				for name := range m.header {
					require.Contains(t, []string{"Nats-Msg-Id", "Bridge-Cn", "Bridge-Time", "Mqtt-Topic", "Bridge-Reason", "Bridge-Detail"}, name)
					require.Len(t, m.header[name], 1, "one line of each")
				}
				require.Regexp(t, "^[0-9A-F]{32}$", m.header["Nats-Msg-Id"][0], "the broker's id, whatever the device says")
			}
			require.Equal(t, c.want, got)
			if c.broker != (broker.Stats{}) {
				require.Equal(t, c.broker, broker.Stats{
					Attested: after.Attested - before.Attested, Withheld: after.Withheld - before.Withheld,
					Denied: after.Denied - before.Denied, Failed: after.Failed - before.Failed,
				})
			}
			d.conn.Close()
		})
	}
	require.Zero(t, r.broker.Dropped())
	require.Zero(t, r.bridge.Totals().Redelivered, "no lane lost its connection")
}

// The broker publishes a will when its device disconnects, by the same rule.
func TestHostileDeviceWill(t *testing.T) {
	t.Parallel()
	r := newAttestedRig(t, nil)
	d := r.rawDevice("acme/heir", "tenant/acme/device/victim/status", "gone")
	d.conn.Close()
	m := proof.AwaitMessage(t, r.js, "QUARANTINE", "quarantine.cn_mismatch.tenant.acme.device.victim.status")
	require.Equal(t, "acme/heir", m.Header.Get("Bridge-Cn"))
	require.Equal(t, "gone", string(m.Data))
}

// In the envelope format, a device's own envelope is only payload: tenant, device, username and
// time come from the broker.
func TestForgedEnvelope(t *testing.T) {
	t.Parallel()
	r := newAttestedRig(t, nil, proof.Settings{"topics": `[{topic: "tenant/{tenant}/device/{device}/{type}", format: envelope}]`})
	const inner = `{"topic":"tenant/acme/device/victim/telemetry","tenant_id":"acme","device_id":"victim","msg_type":"telemetry","username":"acme/victim","payload":{},"ts":1}`
	type envelope struct {
		Topic, Username string
		Tenant          string `json:"tenant_id"`
		Device          string `json:"device_id"`
		Type            string `json:"msg_type"`
		Payload         json.RawMessage
		TS              int64
	}
	for _, c := range []struct {
		name, tenant, device, payload string
		valid                         bool
	}{
		{"as payload", "globex", "a", inner, true},
		{"as a list", "globex", "b", "[" + inner + "," + inner + "]", true},
		{"in a name", "globex", `c","username":"victim","x":"`, "1", true},
		{"in a name with escapes", "globex", `d\u0022,"ts":1`, "1", true},
		{"more keys behind the payload", "globex", "e", `1,"username":"acme/victim"`, false},
		{"an end before the end", "globex", "f", `{}},"username":"acme/victim","payload":{}`, false},
		{"two payloads", "globex", "g", inner + inner, false},
		{"a comment", "globex", "h", "1/*", false},
		{"nested deep", "globex", "i", strings.Repeat("[", maxPayload/2) + strings.Repeat("]", maxPayload/2), true},
		{"nested and never closed", "globex", "j", strings.Repeat("[", maxPayload), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			marks := streamMarks{}
			r.since(marks)
			cn, topic := c.tenant+"/"+c.device, "tenant/"+c.tenant+"/device/"+c.device+"/telemetry"
			acks, open := r.rawDevice(cn).send(rawPublish(wire.QoS1, topic, 1, c.payload))
			require.True(t, open)
			require.Equal(t, 1, acks)
			tenant, device := sameLane(cn)
			w := r.device(tenant + "/" + device)
			proof.AwaitToken(t, w.Publish("tenant/"+tenant+"/device/"+device+"/telemetry", 1, false, "1"))
			proof.Eventually(t, func() bool { return r.pending() == 0 }, func() any { return r.bridge.Problems() })
			all := r.since(marks)
			require.Len(t, all, 1)
			if !c.valid {
				require.Equal(t, "bad_payload", all[0].header["Bridge-Reason"][0])
				require.Equal(t, c.payload, all[0].payload, "as it was sent")
				return
			}
			requireOwnSubject(t, all[0])
			decoder := json.NewDecoder(strings.NewReader(all[0].payload))
			decoder.DisallowUnknownFields()
			var e envelope
			require.NoError(t, decoder.Decode(&e))
			require.Equal(t, envelope{topic, cn, c.tenant, c.device, "telemetry", json.RawMessage(c.payload), r.at.UnixMilli()}, e)
		})
	}
}

func TestHostileDeviceFlood(t *testing.T) {
	t.Parallel()
	t.Run("neighbour in its lane loses nothing", testNeighbourInItsLaneLosesNothing)
	t.Run("impostor uses none of the burst", testImpostorUsesNoneOfTheBurst)
}

// A device floods its lane at full speed over TLS, a third of its messages at QoS 0. It is
// limited by its own budget, and a neighbour in the same lane loses no message.
func testNeighbourInItsLaneLosesNothing(t *testing.T) {
	t.Parallel()
	n := 30_000
	if testrun.Quick() {
		n = 6_000
	}
	r := newAttestedRig(t, nil)
	const cn, topic = "acme/flood", "tenant/acme/device/flood/telemetry"
	tenant, device := sameLane(cn)
	neighbour := r.rawDevice(tenant + "/" + device)
	d := r.rawDevice(cn)
	began := time.Now()
	for sent := 0; sent < n; sent += proof.Window {
		var batch []byte
		for i := range proof.Window {
			batch = append(batch, rawPublish(wire.QoS1, topic, proof.PacketID(sent+i), "x")...)
			if sent < n/2 {
				batch = append(batch, rawPublish(0, topic, 0, "x")...)
			}
		}
		acks, open := d.send(batch)
		require.True(t, open)
		require.Equal(t, proof.Window, acks)
		if i := sent / proof.Window; i < 20 {
			acks, _ = neighbour.send(rawPublish(wire.QoS1, "tenant/"+tenant+"/device/"+device+"/telemetry", uint16(i+1), fmt.Sprint(i)))
			require.Equal(t, 1, acks)
		}
	}
	t.Logf("%d messages of one device in %v", n+n/2, time.Since(began).Round(time.Millisecond))
	sentByNeighbour := min(20, n/proof.Window)
	proof.Eventually(t, func() bool { return r.pending() == 0 && r.bridge.Totals().InFlight == 0 }, func() any { return r.bridge.Totals() })
	require.Zero(t, r.broker.Dropped())

	var flood, neighbours int
	proof.ReadStream(t, r.js, "TELEMETRY", func(m natsjs.Msg, _ *natsjs.MsgMetadata) {
		if strings.Contains(m.Subject(), ".flood.") {
			flood++
			return
		}
		require.Equal(t, fmt.Sprint(neighbours), string(m.Data()), "in order")
		neighbours++
	})
	require.Equal(t, 20, flood, "its burst: the broker's clock stands still")
	require.Equal(t, sentByNeighbour, neighbours)
	total := r.bridge.Totals()
	require.EqualValues(t, n+n/2-20, total.Rejected[verdict.RateLimited])
	require.EqualValues(t, 10, total.Quarantined[verdict.RateLimited], "and of these as many as are kept of a device")
	require.EqualValues(t, n+n/2-30, total.QuarantineSkipped)
}

// A device that floods a victim's topic exhausts its own budgets, not the victim's.
func testImpostorUsesNoneOfTheBurst(t *testing.T) {
	t.Parallel()
	r := newAttestedRig(t, nil)
	const topic = "tenant/acme/device/victim/telemetry"
	var flood, honest []byte
	for i := range 500 {
		flood = append(flood, rawPublish(wire.QoS1, topic, uint16(i+1), "forged")...)
	}
	acks, _ := r.rawDevice("globex/thief").send(flood)
	require.Equal(t, 500, acks)
	for i := range 21 {
		honest = append(honest, rawPublish(wire.QoS1, topic, uint16(i+1), "honest")...)
	}
	acks, _ = r.rawDevice("acme/victim").send(honest)
	require.Equal(t, 21, acks)
	proof.Eventually(t, func() bool { return r.pending() == 0 && r.bridge.Totals().InFlight == 0 }, func() any { return r.bridge.Totals() })
	total := r.bridge.Totals()
	require.EqualValues(t, 20, total.Stored)
	require.EqualValues(t, 500, total.Rejected[verdict.CNMismatch])
	require.EqualValues(t, 10, total.Quarantined[verdict.CNMismatch])
	require.EqualValues(t, 1, total.Quarantined[verdict.RateLimited], "the victim's own place in quarantine is free too")
	proof.ReadStream(t, r.js, "TELEMETRY", func(m natsjs.Msg, _ *natsjs.MsgMetadata) { require.Equal(t, "honest", string(m.Data())) })
}
