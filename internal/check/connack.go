package check

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// announced contains the limits that a broker announces in the CONNACK of MQTT 5 (§3.2.2.3). The
// same limits apply in MQTT 3.1.1, which the bridge uses, but are not announced there.
type announced struct {
	receiveMaximum uint16 // messages in flight; EMQX: mqtt.max_inflight of the client's zone
	maxPacket      uint32 // bytes; 0: no limit
	noShare        bool   // it does not support $share
}

// errNotMQTT5 means that the broker does not accept MQTT 5.
var errNotMQTT5 = errors.New("the broker does not accept MQTT 5")

// announce connects with MQTT 5 and a clean start, reads CONNACK and disconnects.
func announce(conn net.Conn, clientID, username, password string) (announced, error) {
	if err := conn.SetDeadline(time.Now().Add(stepTimeout)); err != nil {
		return announced{}, err
	}
	if _, err := conn.Write(connect5(clientID, username, password)); err != nil {
		return announced{}, err
	}
	r := bufio.NewReader(conn)
	first, err := r.ReadByte()
	if err != nil {
		return announced{}, errNotMQTT5 // a broker may close the connection instead of answering
	}
	size, err := binary.ReadUvarint(r)
	if err != nil || first != 0x20 || size < 2 || size > 64<<10 {
		return announced{}, errNotMQTT5
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return announced{}, errNotMQTT5
	}
	switch code := body[1]; {
	case code == 1 || code == 0x84: // unacceptable protocol version, in 3.1.1 and in 5
		return announced{}, errNotMQTT5
	case code != 0:
		return announced{}, fmt.Errorf("CONNACK 0x%02x", code)
	}
	_, _ = conn.Write([]byte{0xe0, 0})
	return parseAnnounced(body[2:])
}

func connect5(clientID, username, password string) []byte {
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	flags := byte(2) // clean start
	if username != "" {
		flags |= 0x80
	}
	if password != "" {
		flags |= 0x40
	}
	body := append(text(nil, "MQTT"), 5, flags, 0, 60, 0) // keep-alive 60 s, no properties
	body = text(body, clientID)
	if username != "" {
		body = text(body, username)
	}
	if password != "" {
		body = text(body, password)
	}
	return append(binary.AppendUvarint([]byte{0x10}, uint64(len(body))), body...)
}

// parseAnnounced parses the properties of CONNACK.
func parseAnnounced(b []byte) (announced, error) {
	a := announced{receiveMaximum: 65_535} // the default [§3.2.2.3.3]
	malformed := fmt.Errorf("%w: CONNACK's properties", errUnexpected)
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return a, malformed
	}
	b = b[n : n+int(size)]
	for len(b) > 0 {
		id := b[0]
		length := propertyLength(id, b[1:])
		if length < 0 || length > len(b)-1 {
			return a, malformed
		}
		value := b[1 : 1+length]
		b = b[1+length:]
		switch id {
		case 0x21:
			a.receiveMaximum = binary.BigEndian.Uint16(value)
		case 0x27:
			a.maxPacket = binary.BigEndian.Uint32(value)
		case 0x2a:
			a.noShare = value[0] == 0
		}
	}
	return a, nil
}

// propertyLength returns the length of a property's value (§2.2.2.2); -1: unknown.
func propertyLength(id byte, b []byte) int {
	text := func(b []byte) int {
		if len(b) < 2 {
			return len(b) + 1
		}
		return 2 + int(binary.BigEndian.Uint16(b))
	}
	switch id {
	case 0x24, 0x25, 0x28, 0x29, 0x2a:
		return 1
	case 0x13, 0x21, 0x22:
		return 2
	case 0x11, 0x27:
		return 4
	case 0x12, 0x15, 0x16, 0x1a, 0x1c, 0x1f:
		return text(b)
	case 0x26: // a pair
		n := text(b)
		if n > len(b) {
			return n
		}
		return n + text(b[n:])
	}
	return -1
}
