package mqtt

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

func TestParseHeader(t *testing.T) {
	t.Parallel()
	for _, rest := range []int{0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455} {
		b := binary.AppendUvarint([]byte{0x3d}, uint64(rest))
		for cut := range b {
			_, ok, err := parseHeader(b[:cut])
			require.NoError(t, err)
			require.False(t, ok, "%d bytes of % x", cut, b)
		}
		h, ok, err := parseHeader(append(b, 0xff))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, header{kind: 3, flags: 0xd, len: len(b), rest: rest}, h)
		require.Equal(t, len(b)+rest, h.total())
	}
}

func TestMalformedPackets(t *testing.T) {
	t.Parallel()
	const filters = 2
	for _, c := range []struct {
		name   string
		before []byte // on the wire before the bad packet
		bad    []byte
		is     error
		text   string
	}{
		{"length of five bytes", connackNew, []byte{0x30, 0xff, 0xff, 0xff, 0x80, 1}, ErrMalformed, "remaining length is longer than four bytes"},
		{"empty PUBLISH", connackNew, []byte{0x30, 0}, ErrMalformed, "PUBLISH of 0 bytes has no room for a topic"},
		{"PUBLISH of one byte", connackNew, []byte{0x30, 1, 0}, ErrMalformed, "PUBLISH of 1 bytes has no room for a topic"},
		{"topic beyond the packet", connackNew, []byte{0x30, 3, 0, 2, 'a'}, ErrMalformed, "PUBLISH topic length 2 exceeds its 3 remaining bytes"},
		{"topic of 65,535 in a short packet", connackNew, []byte{0x30, 4, 0xff, 0xff, 'a', 'b'}, ErrMalformed, "PUBLISH topic length 65535 exceeds its 4 remaining bytes"},
		{"no packet identifier", connackNew, []byte{0x32, 3, 0, 1, 'a'}, ErrMalformed, "PUBLISH at QoS 1 has no room for a packet identifier"},
		{"half a packet identifier", connackNew, []byte{0x32, 4, 0, 1, 'a', 9}, ErrMalformed, "PUBLISH at QoS 1 has no room for a packet identifier"},
		{"packet identifier 0", connackNew, []byte{0x32, 5, 0, 1, 'a', 0, 0}, ErrMalformed, "packet identifier 0 [MQTT-2.3.1-1]"},
		{"QoS 2", connackNew, []byte{0x34, 5, 0, 1, 'a', 0, 1}, ErrProtocol, "PUBLISH at QoS 2 on a QoS 1 subscription [MQTT-3.8.4-6]"},
		{"QoS 3", connackNew, []byte{0x36, 5, 0, 1, 'a', 0, 1}, ErrMalformed, "PUBLISH with both QoS bits set [MQTT-3.3.1-4]"},
		{"PUBLISH before CONNACK", nil, publish("a", 1, nil), ErrProtocol, "packet type 3 before CONNACK [MQTT-3.2.0-1]"},
		{"PINGRESP before CONNACK", nil, pong, ErrProtocol, "packet type 13 before CONNACK [MQTT-3.2.0-1]"},
		{"HTTP", nil, []byte("HTTP/1.1 400 Bad Request\r\n"), ErrProtocol, "packet type 4 before CONNACK"},
		{"TLS alert in plain text", nil, []byte{0x15, 3, 1, 0, 2, 2, 80}, ErrProtocol, "packet type 1 before CONNACK"},
		{"CONNACK twice", connackNew, connackNew, ErrProtocol, "a second CONNACK"},
		{"CONNACK too short", nil, []byte{0x20, 1, 0}, ErrMalformed, "packet type 2 with 1 remaining bytes"},
		{"CONNACK of MQTT 5", nil, []byte{0x20, 3, 0, 0, 0}, ErrMalformed, "packet type 2 with 3 remaining bytes"},
		{"CONNACK with flags", nil, []byte{0x21, 2, 0, 0}, ErrMalformed, "packet type 2 with flags 0x1 [MQTT-2.2.2-2]"},
		{"CONNACK 6", nil, []byte{0x20, 2, 0, 6}, ErrMalformed, "CONNACK with reserved return code 6"},
		{"CONNACK 0x87", nil, []byte{0x20, 2, 0, 0x87}, ErrMalformed, "CONNACK with reserved return code 135"},
		{"SUBACK without codes", connackNew, suback(1), ErrMalformed, "packet type 9 with 2 remaining bytes"},
		{"SUBACK with too few codes", connackNew, suback(1, 1), ErrMalformed, "packet type 9 with 3 remaining bytes"},
		{"SUBACK with too many codes", connackNew, suback(1, 1, 1, 1), ErrMalformed, "packet type 9 with 5 remaining bytes"},
		{"UNSUBACK too long", connackNew, []byte{0xb0, 3, 0, 1, 0}, ErrMalformed, "packet type 11 with 3 remaining bytes"},
		{"PINGRESP with a body", connackNew, []byte{0xd0, 1, 0}, ErrMalformed, "packet type 13 with 1 remaining bytes"},
		{"PINGRESP with flags", connackNew, []byte{0xdf, 0}, ErrMalformed, "packet type 13 with flags 0xf [MQTT-2.2.2-2]"},
		{"type 0", connackNew, []byte{0x00, 0}, ErrProtocol, "packet type 0 is not for a subscriber"},
		{"CONNECT", connackNew, []byte{0x10, 0}, ErrProtocol, "packet type 1 is not for a subscriber"},
		{"PUBACK", connackNew, pubacks(1), ErrProtocol, "packet type 4 is not for a subscriber"},
		{"PUBREC", connackNew, []byte{0x50, 2, 0, 1}, ErrProtocol, "packet type 5 is not for a subscriber"},
		{"PUBREL", connackNew, []byte{0x62, 2, 0, 1}, ErrProtocol, "packet type 6 is not for a subscriber"},
		{"PUBCOMP", connackNew, []byte{0x70, 2, 0, 1}, ErrProtocol, "packet type 7 is not for a subscriber"},
		{"SUBSCRIBE", connackNew, []byte{0x82, 0}, ErrProtocol, "packet type 8 is not for a subscriber"},
		{"PINGREQ", connackNew, []byte{0xc0, 0}, ErrProtocol, "packet type 12 is not for a subscriber"},
		{"DISCONNECT", connackNew, []byte{0xe0, 0}, ErrProtocol, "packet type 14 is not for a subscriber"},
		{"AUTH of MQTT 5", connackNew, []byte{0xf0, 0}, ErrProtocol, "packet type 15 is not for a subscriber"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			good := c.before
			if c.before != nil {
				good = append(bytes.Clone(good), publish("good", 7, []byte("kept"))...)
			}
			wire := append(bytes.Clone(good), c.bad...)
			wire = append(wire, publish("behind", 8, nil)...)
			for _, size := range []int{1, len(wire)} {
				r := &recorder{}
				tp := newTap(&memConn{chunks: chunked(wire, size)}, &Options{Receiver: r, Filters: make([]string, filters)})
				passed, err := readAll(tp)
				require.ErrorIs(t, err, c.is)
				require.ErrorContains(t, err, c.text)
				require.NotContains(t, err.Error(), "\n")
				require.Equal(t, string(c.before), string(passed), "the bad packet must not reach paho")
				requireLife(t, tp, r.all())
				if c.before != nil {
					require.Len(t, r.deliveries(), 1, "what came before it was delivered, what is behind it not")
				}
			}
		})
	}
}

func TestConnackLengthEncoding(t *testing.T) {
	t.Parallel()
	// Remaining length 2 in two bytes: clumsy, not forbidden. Read at fixed
	// places, this refusal would count as accepted.
	for _, code := range []byte{0, 5} {
		r := &recorder{}
		tp := newTap(&memConn{chunks: [][]byte{{0x20, 0x82, 0x00, 0x00, code}}}, &Options{Receiver: r})
		cp, err := packets.ReadPacket(tp)
		require.NoError(t, err)
		require.Equal(t, code, cp.(*packets.ConnackPacket).ReturnCode)
		require.Equal(t, code == 0, len(r.all()) == 1)
	}
}

func TestParsePublish(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		wire []byte
		want bridge.Delivery
	}{
		{"QoS 0", []byte{0x30, 6, 0, 3, 'a', '/', 'b', 'x'}, bridge.Delivery{Topic: []byte("a/b"), Payload: []byte("x"), PayloadSize: 1}},
		{"QoS 1", []byte{0x32, 8, 0, 3, 'a', '/', 'b', 0x12, 0x34, 'x'}, bridge.Delivery{Topic: []byte("a/b"), Payload: []byte("x"), PayloadSize: 1, QoS: 1, PacketID: 0x1234}},
		{"all flags", []byte{0x3b, 7, 0, 3, 'a', '/', 'b', 0xff, 0xff}, bridge.Delivery{Topic: []byte("a/b"), Payload: []byte{}, QoS: 1, PacketID: 0xffff, Dup: true, Retain: true}},
		{"empty topic", []byte{0x32, 4, 0, 0, 0, 1}, bridge.Delivery{Topic: []byte{}, Payload: []byte{}, QoS: 1, PacketID: 1}},
		{"wildcards and NUL pass", []byte{0x30, 6, 0, 4, '+', '#', 0, '*'}, bridge.Delivery{Topic: []byte("+#\x00*"), Payload: []byte{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, ok, err := parseHeader(c.wire)
			require.True(t, ok)
			require.NoError(t, err)
			// What an earlier delivery left behind must not show.
			got := bridge.Delivery{PacketID: 99, QoS: 1, Dup: true, Retain: true, PayloadSize: 99}
			require.NoError(t, parsePublish(h, c.wire[h.len:], &got))
			require.Equal(t, c.want, got)
		})
	}
}

// FuzzParsePublish compares with paho's decoder: what both accept is the same,
// and what paho refuses is refused.
func FuzzParsePublish(f *testing.F) {
	f.Add(byte(0x30), []byte("\x00\x03a/bpayload"))
	f.Add(byte(0x3b), []byte("\x00\x03a/b\x00\x01payload"))
	f.Add(byte(0x32), []byte("\x00\x00\x00\x01"))
	f.Add(byte(0x34), []byte("\xff\xffa"))
	f.Add(byte(0x36), []byte("\x00"))
	f.Fuzz(func(t *testing.T, first byte, body []byte) {
		first = typePublish<<4 | first&0x0f
		wire := packet(first, body)
		h, ok, err := parseHeader(wire)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, len(wire), h.total())
		var d bridge.Delivery
		err = parsePublish(h, wire[h.len:], &d)
		want, refErr := packets.ReadPacket(bytes.NewReader(wire))
		if err != nil {
			require.True(t, refErr != nil || h.flags>>1&3 >= 2 || want.Details().MessageID == 0,
				"refused for no reason: %v", err)
			return
		}
		require.NoError(t, refErr)
		requireSamePublish(t, want.(*packets.PublishPacket), &d)
	})
}

// requireSamePublish compares a whole delivery with paho's reading of it.
func requireSamePublish(t testing.TB, want *packets.PublishPacket, got *bridge.Delivery) {
	t.Helper()
	require.Equal(t, want.TopicName, string(got.Topic))
	require.Equal(t, string(want.Payload), string(got.Payload))
	require.Equal(t, len(want.Payload), got.PayloadSize)
	require.Equal(t, want.MessageID, got.PacketID)
	require.Equal(t, want.Qos, got.QoS)
	require.Equal(t, want.Dup, got.Dup)
	require.Equal(t, want.Retain, got.Retain)
}
