package mqtt

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

// FuzzTapRead sends arbitrary bytes, in arbitrary pieces, through a tap and
// compares with a reference that has the whole stream and paho's decoder.
func FuzzTapRead(f *testing.F) {
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	pub := publish("tenant/a/device/d/t", 7, []byte("payload"))
	f.Add(join(connackNew, suback(1, 1, 1), pub, pong, publish("q0", 0, nil)), []byte{1, 200}, byte(4), uint16(0))
	f.Add(join(connackKept, publish("t", 1, pattern(300)), pub), []byte{7}, byte(1), uint16(40))
	f.Add(join(connackNew, []byte{0x3b, 7, 0, 3, 'a', '/', 'b', 0xff, 0xff}, []byte{0x34, 5, 0, 1, 'a', 0, 1}), []byte{255}, byte(9), uint16(0))
	f.Add(join(connackNew, []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}), []byte{2}, byte(2), uint16(0))
	f.Add(join([]byte{0x20, 0x82, 0, 0, 5}, pub), []byte{3}, byte(2), uint16(0))
	f.Add(join(connackNew, []byte{0x30, 0x80, 0x40}, pattern(300)), []byte{100}, byte(2), uint16(5))
	f.Fuzz(func(t *testing.T, wire, cuts []byte, readSize byte, maxPacket uint16) {
		sizes := []int{len(wire) + 1}
		for _, c := range cuts {
			sizes = append(sizes, int(c))
		}
		r := &recorder{ack: true}
		conn := &memConn{chunks: chunked(wire, sizes...)}
		tp := newTap(conn, &Options{Receiver: r, Filters: make([]string, 2)})
		if maxPacket > 0 {
			// Below minPacket, to meet the cut in small inputs, but not
			// below a fixed header.
			tp.maxPacket = int(maxPacket) + 5
		}
		passed, err := readAll(tp, int(readSize))

		want := reference(wire, 2, tp.maxPacket)
		require.Error(t, err)
		require.Equal(t, want.valid, err == io.EOF, "ended with %v", err)
		require.Equal(t, string(want.passed), string(passed))
		requirePahoReads(t, passed)
		events := r.all()
		requireLife(t, tp, events)
		require.Equal(t, want.connected, len(events) > 0)
		got := r.deliveries()
		require.Len(t, got, len(want.publishes))
		var ids []uint16
		for i := range got {
			requireSameCutPublish(t, want.publishes[i], &got[i])
			if got[i].QoS > 0 {
				ids = append(ids, got[i].PacketID)
			}
		}
		require.True(t, bytes.HasPrefix(pubacks(ids...), conn.sent()))
		if want.valid {
			require.Equal(t, string(pubacks(ids...)), string(conn.sent()))
		}
		_, again := tp.Read(make([]byte, 1))
		require.Equal(t, err, again)
		require.Len(t, r.all(), len(events), "it ends once")
	})
}

// reading is the contents of a stream up to its end or its first error.
type reading struct {
	valid     bool // no error; the stream may end within a packet
	connected bool
	passed    []byte
	publishes []cutPublish
}

type cutPublish struct {
	*packets.PublishPacket
	kept int // bytes of the payload
}

func reference(wire []byte, filters, maxPacket int) (out reading) {
	for {
		if len(wire) < 2 {
			out.valid = true
			return out
		}
		rest, n := binary.Uvarint(wire[1:min(len(wire), 5)])
		if n <= 0 {
			out.valid = len(wire) < 5
			return out
		}
		size := 1 + n + int(rest)
		kind, flags := wire[0]>>4, wire[0]&15
		if out.connected == (kind == packets.Connack) {
			return out
		}
		if kind != packets.Publish {
			lengths := map[byte]int{packets.Connack: 2, packets.Suback: 2 + filters, packets.Unsuback: 2, packets.Pingresp: 0}
			if want, ok := lengths[kind]; !ok || int(rest) != want || flags != 0 {
				return out
			}
		}
		have := size
		if kind == packets.Publish {
			have = min(size, maxPacket)
		}
		if len(wire) < have {
			out.valid = true
			return out
		}
		switch kind {
		case packets.Publish:
			// The cut packet, as if it were a whole one.
			if have < 1+n {
				return out
			}
			cp, err := packets.ReadPacket(bytes.NewReader(packet(wire[0], wire[1+n:have])))
			if err != nil || flags>>1&3 > 1 || flags>>1&3 == 1 && cp.Details().MessageID == 0 {
				return out
			}
			p := cutPublish{cp.(*packets.PublishPacket), len(cp.(*packets.PublishPacket).Payload)}
			p.Payload = append(p.Payload, make([]byte, size-have)...)
			out.publishes = append(out.publishes, p)
		case packets.Connack:
			code := wire[1+n+1]
			if code > 5 {
				return out
			}
			out.connected = code == 0
			fallthrough
		default:
			out.passed = append(out.passed, wire[:size]...)
		}
		wire = wire[min(size, len(wire)):]
		if size > have && len(wire) == 0 {
			out.valid = true
			return out
		}
	}
}

func requireSameCutPublish(t *testing.T, want cutPublish, got *event) {
	t.Helper()
	require.Len(t, got.Payload, want.kept)
	// The rest was not delivered, only counted.
	got.Payload = append(got.Payload, make([]byte, len(want.Payload)-want.kept)...)
	requireSamePublish(t, want.PublishPacket, &got.Delivery)
}

// requirePahoReads asserts that paho decodes the bytes that passed, without a PUBLISH.
func requirePahoReads(t *testing.T, passed []byte) {
	t.Helper()
	for r := bytes.NewReader(passed); r.Len() > 0; {
		cp, err := packets.ReadPacket(r)
		require.NoError(t, err)
		_, isPublish := cp.(*packets.PublishPacket)
		require.False(t, isPublish)
	}
}
