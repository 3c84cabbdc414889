package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"mqtt-nats-bridge/bridge"
)

// MQTT 3.1.1 control packet types (§2.2.1) that a broker may send to a subscriber at QoS 1, and
// those that the client sends.
const (
	typeConnack  = 2
	typePublish  = 3
	typePuback   = 4
	typeSuback   = 9
	typeUnsuback = 11
	typePingreq  = 12
	typePingresp = 13
	// typeDisconnect is the last packet that a client sends.
	typeDisconnect = 14
)

// ErrMalformed is wrapped by every error about bytes that are not an MQTT 3.1.1 packet. The
// connection must be closed, because after one wrong length every following packet is misread (MQTT
// 3.1.1 §4.8).
var ErrMalformed = errors.New("malformed MQTT packet")

// ErrProtocol is wrapped by errors about well-formed packets that the broker must not send.
var ErrProtocol = errors.New("MQTT protocol violation by the broker")

// header is a fixed header (§2.2).
type header struct {
	kind  byte // control packet type
	flags byte // lower four bits
	len   int  // size of the fixed header itself, in bytes
	rest  int  // remaining length, in bytes
}

// total returns the size of the whole packet in bytes.
func (h header) total() int { return h.len + h.rest }

// parseHeader parses a fixed header. ok is false if b is too short.
func parseHeader(b []byte) (h header, ok bool, err error) {
	if len(b) < 2 {
		return header{}, false, nil
	}
	h.kind, h.flags = b[0]>>4, b[0]&0x0f
	// Most device messages are below 16 KiB: one or two length bytes.
	for i := 1; i <= 4; i++ {
		if i == len(b) {
			return header{}, false, nil
		}
		h.rest |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			h.len = i + 1
			return h, true, nil
		}
	}
	return header{}, false, fmt.Errorf("%w: remaining length is longer than four bytes", ErrMalformed)
}

// parsePublish fills d from the variable header and payload of a PUBLISH (§3.3). If body is only
// the beginning of the packet's body, the payload is truncated; d.PayloadSize is computed from
// h.rest and keeps the full length.
//
// A topic name with a wildcard or a NUL is accepted although §3.3.2.1 forbids it: if the connection
// were closed, the broker would resend the message forever. The subject mapping rejects or escapes
// such a topic.
func parsePublish(h header, body []byte, d *bridge.Delivery) error {
	d.QoS = h.flags >> 1 & 3
	d.Dup = h.flags&8 != 0
	d.Retain = h.flags&1 != 0
	d.PacketID = 0
	if len(body) < 2 {
		return fmt.Errorf("%w: PUBLISH of %d bytes has no room for a topic", ErrMalformed, h.rest)
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if n > len(body) {
		return fmt.Errorf("%w: PUBLISH topic length %d exceeds its %d remaining bytes", ErrMalformed, n-2, h.rest)
	}
	d.Topic = body[2:n]
	switch d.QoS {
	case 0:
	case 1:
		if n+2 > len(body) {
			return fmt.Errorf("%w: PUBLISH at QoS 1 has no room for a packet identifier", ErrMalformed)
		}
		d.PacketID = binary.BigEndian.Uint16(body[n:])
		n += 2
		if d.PacketID == 0 {
			return fmt.Errorf("%w: PUBLISH at QoS 1 with packet identifier 0 [MQTT-2.3.1-1]", ErrMalformed)
		}
	case 2:
		return fmt.Errorf("%w: PUBLISH at QoS 2 on a QoS 1 subscription [MQTT-3.8.4-6]", ErrProtocol)
	default:
		return fmt.Errorf("%w: PUBLISH with both QoS bits set [MQTT-3.3.1-4]", ErrMalformed)
	}
	d.Payload = body[n:]
	d.PayloadSize = h.rest - n
	return nil
}

// checkForPaho refuses packets that must not reach paho: unexpected types, and shapes on which its
// decoder fails or panics. For instance, a SUBACK with more return codes than filters indexes past
// a slice (paho v1.5.1 net.go). filters is the number of filters in every SUBSCRIBE of this
// session.
func checkForPaho(h header, filters int) error {
	rest := 2
	switch h.kind {
	case typeConnack, typeUnsuback:
	case typeSuback:
		rest = 2 + filters
	case typePingresp:
		rest = 0
	default:
		return fmt.Errorf("%w: packet type %d is not for a subscriber", ErrProtocol, h.kind)
	}
	if h.rest != rest {
		return fmt.Errorf("%w: packet type %d with %d remaining bytes", ErrMalformed, h.kind, h.rest)
	}
	if h.flags != 0 {
		return fmt.Errorf("%w: packet type %d with flags 0x%x [MQTT-2.2.2-2]", ErrMalformed, h.kind, h.flags)
	}
	return nil
}

// checkConnackOrder refuses packets before CONNACK [MQTT-3.2.0-1] and a second CONNACK.
func checkConnackOrder(h header, connected bool) error {
	switch first := h.kind == typeConnack; {
	case connected && first:
		return fmt.Errorf("%w: a second CONNACK", ErrProtocol)
	case !connected && !first:
		return fmt.Errorf("%w: packet type %d before CONNACK [MQTT-3.2.0-1]", ErrProtocol, h.kind)
	}
	return nil
}

// parseConnack parses the body of a CONNACK (§3.2.2). A reserved return code is an error, because
// paho v1.5.1 treats it as success.
func parseConnack(body []byte) (accepted, sessionPresent bool, err error) {
	if code := body[1]; code > maxConnack {
		return false, false, fmt.Errorf("%w: CONNACK with reserved return code %d", ErrMalformed, code)
	}
	return body[1] == 0, body[0]&1 == 1, nil
}

// grantsAll reports whether a SUBACK's body grants every filter at QoS 1 or more (§3.9.3).
func grantsAll(body []byte) bool {
	return !slices.ContainsFunc(body[2:], func(code byte) bool { return code == 0 || code > 2 })
}

// maxConnack is the highest return code defined by MQTT 3.1.1 (§3.2.2.3).
const maxConnack = 5

// appendPuback appends a PUBACK (§3.4).
func appendPuback(dst []byte, packetID uint16) []byte {
	return append(dst, typePuback<<4, 2, byte(packetID>>8), byte(packetID))
}
