package check

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
)

// script configures the answers of a fake broker.
type script struct {
	connack byte
	// hangUp ends the connection instead of answering a packet of this type.
	hangUp byte
	// grant returns SUBACK's code for a filter; nil: 1 for all.
	grant func(filter string) byte
	// versionTopic and version are a retained message for every client that subscribes
	// to $SYS.
	versionTopic, version string
	// connack5 answers CONNECT with MQTT 5. nil: with Receive Maximum 1000; empty: no answer.
	connack5 []byte
	echo     func(topic string) bool // whether to send back a publish
}

// fakeBroker is an MQTT broker that serves one connection at a time.
type fakeBroker struct {
	url     string
	connect packets.ConnectPacket // of the first connection; read after the check has returned
	filters []string              // of the first SUBSCRIBE
	done    chan struct{}
}

func startBroker(t *testing.T, s script) *fakeBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &fakeBroker{url: "mqtt://" + l.Addr().String(), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.serve(conn, s)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-b.done
	})
	return b
}

func (b *fakeBroker) serve(conn net.Conn, s script) {
	r := bufio.NewReader(conn)
	// paho's decoder does not support MQTT 5.
	if head, err := r.Peek(9); err == nil && head[8] == 5 {
		if s.connack5 == nil {
			s.connack5 = receiveMaximum(1000)
		}
		// EMQX does that to a client id whose previous connection has just ended.
		if id := b.connect.ClientIdentifier; strings.Contains(first(r), string(rune(len(id)))+id) {
			s.connack5 = []byte{0x20, 3, 0, 0x89, 0}
		}
		_, _ = conn.Write(s.connack5)
		return
	}
	for {
		p, err := packets.ReadPacket(r)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.ConnectPacket:
			if b.connect.ProtocolVersion == 0 {
				b.connect = *p
			}
			if s.hangUp == packets.Connect {
				return
			}
			ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			ack.ReturnCode = s.connack
			_ = ack.Write(conn)
		case *packets.SubscribePacket:
			if s.hangUp == packets.Subscribe {
				return
			}
			b.suback(conn, p, s)
		case *packets.PublishPacket:
			if s.echo != nil && s.echo(p.TopicName) {
				_ = p.Write(conn)
			}
		case *packets.DisconnectPacket:
			return
		}
	}
}

func first(r *bufio.Reader) string {
	p, _ := r.Peek(r.Buffered())
	return string(p)
}

func (b *fakeBroker) suback(conn net.Conn, p *packets.SubscribePacket, s script) {
	ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	ack.MessageID = p.MessageID
	for _, f := range p.Topics {
		code := byte(1)
		if s.grant != nil {
			code = s.grant(f)
		}
		ack.ReturnCodes = append(ack.ReturnCodes, code)
	}
	system := strings.HasPrefix(p.Topics[0], "$SYS/")
	if !system {
		if b.filters == nil {
			b.filters = p.Topics
		}
		// A message of the live traffic may arrive before the SUBACK.
		early := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		early.TopicName, early.Payload = "tenant/a/device/b/t", []byte("x")
		_ = early.Write(conn)
	}
	if system && s.version != "" {
		retained := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		retained.TopicName, retained.Payload, retained.Retain = s.versionTopic, []byte(s.version), true
		_ = retained.Write(conn)
		return
	}
	if system && s.grant == nil {
		for i := range ack.ReturnCodes {
			ack.ReturnCodes[i] = 0x80
		}
	}
	_ = ack.Write(conn)
}

// receiveMaximum is a CONNACK of MQTT 5.
func receiveMaximum(n uint16, more ...byte) []byte {
	properties := append([]byte{0x21, byte(n >> 8), byte(n)}, more...)
	return append([]byte{0x20, byte(3 + len(properties)), 0, 0, byte(len(properties))}, properties...)
}

// load is a configuration from KEY=value pairs of the environment.
func load(t *testing.T, env ...string) (*config.Config, *plan.Plan) {
	t.Helper()
	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	plan, err := plan.Compile(c)
	require.NoError(t, err)
	return c, plan
}

// checkBroker returns the output of checking a broker.
func checkBroker(t *testing.T, env ...string) (string, *Report) {
	t.Helper()
	c, plan := load(t, env...)
	var out bytes.Buffer
	r := NewReport(&out)
	Broker(context.Background(), c, plan, r)
	return out.String(), r
}

func TestBrokerFindings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script     script
		env        []string
		partitions string // empty: "0"
		want       []string
		fails      int
	}{
		"all well": {
			script: script{versionTopic: "$SYS/brokers/emqx@127.0.0.1/version", version: "5.8.9"},
			want: []string{
				"ok    mqtt connect: accepted user bridge as client bridge-check-",
				"ok    mqtt subscribe: all 1 filters granted at QoS 1: $share/bridge-p0/bridge/v1/0/#",
				"ok    mqtt limits: Receive Maximum 1000\n",
				"ok    mqtt broker: EMQX 5.8.9\n",
				"note  mqtt settings: mqtt.max_mqueue_len = 200000: ",
			},
		},
		"wrong password": {
			script: script{connack: 4}, fails: 1,
			want: []string{" refuses the credentials: CONNACK 4, bad user name or password: compare mqtt.username"},
		},
		"not authorized": {
			script: script{connack: 5}, fails: 1,
			want: []string{" refuses the credentials: CONNACK 5, not authorized: compare mqtt.username"},
		},
		"no password configured": {
			script: script{connack: 5}, env: []string{"BRIDGE_MQTT_USERNAME=", "BRIDGE_MQTT_PASSWORD="}, fails: 1,
			want: []string{" requires credentials, but none are configured: CONNACK 5: give mqtt.username and mqtt.password_file"},
		},
		"client id refused": {
			script: script{connack: 2}, fails: 1, want: []string{" refuses the client id: CONNACK 2: correct mqtt.client_id"},
		},
		"not available": {script: script{connack: 3}, fails: 1, want: []string{" is not available: CONNACK 3"}},
		"hangs up on CONNECT": {
			script: script{hangUp: packets.Connect}, fails: 1,
			want: []string{"closes the connection instead of answering CONNECT"},
		},
		"hangs up on SUBSCRIBE": {
			script: script{hangUp: packets.Subscribe}, fails: 1,
			want: []string{"no answer to SUBSCRIBE $share/bridge-p0/bridge/v1/0/#", "its ACL for user bridge"},
		},
		"one cause, one line": {
			script: script{grant: func(string) byte { return 0x80 }}, fails: 1,
			partitions: "0-f",
			want:       []string{"FAIL  mqtt subscribe: 16 of 16 filters refused (SUBACK 0x80): $share/bridge-p0/bridge/v1/0/# $share/bridge-p1/bridge/v1/1/# $share/bridge-p2/bridge/v1/2/# … $share/bridge-pf/bridge/v1/f/#: allow user bridge"},
		},
		"two causes": {
			script: script{grant: func(f string) byte {
				switch {
				case strings.HasSuffix(f, "/0/#"):
					return 0
				case strings.HasSuffix(f, "/1/#"):
					return 0x80
				}
				return 1
			}},
			partitions: "0-f",
			fails:      2,
			want: []string{
				"1 of 16 filters granted at QoS 0 only, messages could be lost: $share/bridge-p0/bridge/v1/0/#",
				"1 of 16 filters refused (SUBACK 0x80): $share/bridge-p1/bridge/v1/1/#",
			},
		},
		"EMQX's default zone": {
			script: script{connack5: receiveMaximum(32)}, fails: 1,
			want: []string{"FAIL  mqtt limits: Receive Maximum is 32, EMQX's default: ", "keeps 1,000 messages"},
		},
		"a small window": {
			script: script{connack5: receiveMaximum(20)},
			want:   []string{"note  mqtt limits: Receive Maximum is 20 messages in flight"},
		},
		"small packets": {
			script: script{connack5: receiveMaximum(1000, 0x27, 0, 0, 0xff, 0xff)},
			want:   []string{"ok    mqtt limits: Receive Maximum 1000", "Maximum Packet Size is 65535 bytes, below limits.payload (262144)"},
		},
		"no $share, said": {
			script: script{connack5: receiveMaximum(1000, 0x2a, 0)}, fails: 1,
			want: []string{"FAIL  mqtt share: the broker does not support $share, so no messages would arrive: set mqtt.share: off"},
		},
		"no $share, granted as a plain filter": {
			script: script{connack5: []byte{}, echo: func(topic string) bool { return strings.HasSuffix(topic, "/plain") }}, fails: 1,
			want: []string{"FAIL  mqtt share: the broker grants $share but does not deliver messages for it: set mqtt.share: off"},
		},
		"$share without MQTT 5": {
			script: script{connack5: []byte{}, echo: func(string) bool { return true }},
			want:   []string{"ok    mqtt share: the broker supports $share"},
		},
		"$share that cannot be tried out": {
			script: script{connack5: []byte{0x20, 2, 0, 1}},
			want:   []string{"note  mqtt share: the broker does not accept MQTT 5, and may not support $share"},
		},
		"EMQX too old": {
			script: script{versionTopic: "$SYS/brokers/emqx@127.0.0.1/version", version: "5.8.4"},
			want:   []string{"note  mqtt broker: EMQX 5.8.4 is older than 5.8.5: it lacks client_attrs_init"},
		},
		"mosquitto": {
			script: script{versionTopic: "$SYS/broker/version", version: "mosquitto version 2.0.11"},
			want: []string{
				"ok    mqtt broker: mosquitto 2.0.11\n",
				"mosquitto has no rules, so messages may never arrive",
				"note  mqtt settings: max_queued_messages = 0: ",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, test.script)
			env := test.env
			if env == nil {
				env = []string{"BRIDGE_MQTT_USERNAME=bridge", "BRIDGE_MQTT_PASSWORD=hunter2"}
			}
			out, r := checkBroker(t, append(env, "MQTT_URL="+b.url, "BRIDGE_LANES_PARTITIONS="+cmp.Or(test.partitions, "0"))...)
			for _, want := range test.want {
				require.Contains(t, out, want)
			}
			require.Equal(t, test.fails, r.Failed(), out)
			require.Equal(t, test.fails, strings.Count(out, "FAIL  "), out)
			require.NotContains(t, out, "hunter2")
		})
	}
}

func TestBrokerCheck(t *testing.T) {
	t.Parallel()
	t.Run("bridge session is not disturbed", testBridgeSessionIsNotDisturbed)
	t.Run("refused connection is not a wrong password", testRefusedConnectionIsNotAWrongPassword)
	t.Run("plain-text broker behind TLS URL fails", testPlainTextBrokerBehindTLSURLFails)
}

func testBridgeSessionIsNotDisturbed(t *testing.T) {
	t.Parallel()
	b := startBroker(t, script{})
	_, r := checkBroker(t, "MQTT_URL="+b.url, "BRIDGE_IDENTITY_MODE=off", "BRIDGE_MQTT_SHARE=fleet", "BRIDGE_LANES_COUNT=4")
	require.Zero(t, r.Failed())
	require.True(t, b.connect.CleanSession)
	require.Regexp(t, `^bridge-check-[a-z0-9]{8}$`, b.connect.ClientIdentifier)
	require.Len(t, b.filters, 3)
	for _, f := range b.filters {
		require.Regexp(t, `^\$share/fleet-check-[a-z0-9]{8}/tenant/`, f, "a member of the bridge's own group would be given its messages")
	}
}

func testRefusedConnectionIsNotAWrongPassword(t *testing.T) {
	t.Parallel()
	out, r := checkBroker(t, "MQTT_URL=mqtt://"+testrun.Address(t).String())
	require.Equal(t, 1, r.Failed())
	require.Contains(t, out, "cannot be reached")
	require.Contains(t, out, "nothing listens there")
}

func testPlainTextBrokerBehindTLSURLFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("not a TLS record"))
		_ = conn.Close()
	}()
	out, r := checkBroker(t, "MQTT_URL=mqtts://"+l.Addr().String())
	require.Equal(t, 1, r.Failed())
	require.Contains(t, out, "FAIL  mqtt tls: ")
	require.Contains(t, out, "does not answer with TLS: it sends \"not a\"")
}

func TestVersionComparison(t *testing.T) {
	t.Parallel()
	for _, older := range []string{"5.8.4", "5.7.12", "4.4.19", "5.8", "5.8.0-rc.1", "v5.8.4"} {
		require.True(t, before(older, leastEMQX), older)
	}
	for _, fine := range []string{"5.8.5", "5.8.10", "5.10.0", "6.0.0", "5.8.9-g123abc"} {
		require.False(t, before(fine, leastEMQX), fine)
	}
}

func TestEMQXSettings(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../../deploy/emqx/emqx.conf")
	require.NoError(t, err)
	for _, s := range emqxSettings {
		_, key, _ := strings.Cut(s.key, ".")
		found := regexp.MustCompile(`\b` + key + ` = "?([A-Za-z0-9]+)`).FindSubmatch(file)
		require.NotNil(t, found, s.key)
		require.Equal(t, s.want, string(found[1]), s.key)
	}
}
