// Package wire writes and reads single MQTT 3.1.1 packets, for simulated devices, load generators and
// tests. Unlike a client library, it does not hide which packets were resent and which PUBACK belongs to
// which packet.
package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// The first byte of control packets (§2.2.1).
const (
	connect    = 0x10
	connack    = 0x20
	Publish    = 0x30
	Puback     = 0x40
	Subscribe  = 0x82
	suback     = 0x90
	Pingreq    = 0xC0
	Disconnect = 0xE0
)

// Flags in the first byte of a PUBLISH (§3.3.1).
const (
	Retain = 0x01
	QoS1   = 0x02
	QoS2   = 0x04
	Dup    = 0x08 // the packet may be a redelivery
)

// maxPacket is the size limit of packets for Read, in bytes.
const maxPacket = 16 << 20

// Will is the message that the broker publishes for a client that disconnects without a DISCONNECT.
type Will struct {
	Topic   string
	Payload []byte
}

// Connect contains the fields of a CONNECT packet (§3.1).
type Connect struct {
	ClientID           string
	Username, Password string        // empty: none
	KeepSession        bool          // clean session 0
	KeepAlive          time.Duration // 0: none
	Will               *Will         // at QoS 1; nil: none
}

// RefusedError is a CONNACK with a code other than 0 (§3.2.2.3).
type RefusedError struct{ Code byte }

// Error implements error.
func (e *RefusedError) Error() string {
	reasons := []string{"", "unacceptable protocol version", "client id rejected", "server unavailable",
		"bad user name or password", "not authorized"}
	if int(e.Code) < len(reasons) {
		return fmt.Sprintf("the broker refuses the connection: code %d, %s", e.Code, reasons[e.Code])
	}
	return fmt.Sprintf("the broker refuses the connection: code %d", e.Code)
}

// Handshake sends the CONNECT and reads the CONNACK. It reads no bytes after the CONNACK.
func (c *Connect) Handshake(conn net.Conn) (sessionPresent bool, err error) {
	if _, err := conn.Write(c.append(nil)); err != nil {
		return false, fmt.Errorf("send CONNECT: %w", err)
	}
	var answer [4]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return false, fmt.Errorf("read CONNACK: %w", err)
	}
	if answer[0] != connack || answer[1] != 2 {
		return false, fmt.Errorf("read CONNACK: the broker sent % x", answer)
	}
	if answer[3] != 0 {
		return false, &RefusedError{Code: answer[3]}
	}
	return answer[2]&1 == 1, nil
}

func (c *Connect) append(b []byte) []byte {
	var flags byte
	payload := appendText(nil, c.ClientID)
	if !c.KeepSession {
		flags |= 0x02
	}
	if c.Will != nil {
		flags |= 0x04 | QoS1<<2
		payload = appendText(appendText(payload, c.Will.Topic), string(c.Will.Payload))
	}
	if c.Username != "" {
		flags |= 0x80
		payload = appendText(payload, c.Username)
	}
	if c.Password != "" {
		flags |= 0x40
		payload = appendText(payload, c.Password)
	}
	head := []byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags}
	head = binary.BigEndian.AppendUint16(head, uint16(min(c.KeepAlive/time.Second, 65535)))
	b = binary.AppendUvarint(append(b, connect), uint64(len(head)+len(payload)))
	return append(append(b, head...), payload...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// AppendPublish appends a PUBLISH (§3.3). flags contains its QoS. With id 0, no packet id is written.
func AppendPublish(b []byte, flags byte, topic string, id uint16, payload []byte) []byte {
	size := 2 + len(topic) + len(payload)
	if id != 0 {
		size += 2
	}
	b = binary.AppendUvarint(append(b, Publish|flags), uint64(size)) // the same encoding as MQTT's remaining length
	b = appendText(b, topic)
	if id != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

// AppendPuback appends the PUBACK of a packet id (§3.4).
func AppendPuback(b []byte, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, Puback, 2), id)
}

// ReadPuback reads a PUBACK and returns its packet id.
func ReadPuback(r io.Reader) (id uint16, err error) {
	var p [4]byte
	if _, err := io.ReadFull(r, p[:]); err != nil {
		return 0, fmt.Errorf("read PUBACK: %w", err)
	}
	if p[0] != Puback || p[1] != 2 {
		return 0, fmt.Errorf("read PUBACK: the broker sent % x", p)
	}
	return binary.BigEndian.Uint16(p[2:]), nil
}

// Suback returns the SUBACK that grants every filter of a SUBSCRIBE at QoS 1 (§3.9).
func Suback(subscribe []byte) []byte {
	b := []byte{suback, 2, subscribe[0], subscribe[1]}
	for rest := subscribe[2:]; len(rest) > 2; b[1]++ {
		rest = rest[2+int(binary.BigEndian.Uint16(rest))+1:]
		b = append(b, 1)
	}
	return b
}

// Read reads one packet and returns its first byte and the bytes after the remaining length.
func Read(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	if size > maxPacket {
		return 0, nil, fmt.Errorf("packet of %d bytes exceeds the limit", size)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(r, body)
	return first, body, err
}
