package fleet

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// DupFlag in the first byte of a PUBLISH says that it may have come before (§3.3.1.1).
const DupFlag = 0x08

// MQTT 3.1.1 control packets as a client's first byte has them (§2.2.1).
const (
	connectByte    = 0x10
	connackByte    = 0x20
	publishByte    = 0x30
	pubackByte     = 0x40
	pingreqByte    = 0xC0
	disconnectByte = 0xE0

	qos1 = 0x02
	// maxPacket is the largest packet that a device reads, in bytes.
	maxPacket = 16 << 20
)

// Will is the message that the broker publishes for a client that leaves without
// DISCONNECT.
type Will struct {
	Topic   string
	Payload []byte
}

// Connect is what a CONNECT packet says (§3.1).
type Connect struct {
	ClientID           string
	Username, Password string        // empty: none
	KeepSession        bool          // clean session 0
	KeepAlive          time.Duration // 0: none
	Will               *Will         // at QoS 1; nil: none
}

// RefusedError is a CONNACK with another code than 0 (§3.2.2.3).
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

// Handshake sends the CONNECT and waits for the CONNACK, of which it reads nothing more.
func (c *Connect) Handshake(conn net.Conn) (sessionPresent bool, err error) {
	if _, err := conn.Write(c.append(nil)); err != nil {
		return false, fmt.Errorf("send CONNECT: %w", err)
	}
	var answer [4]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return false, fmt.Errorf("read CONNACK: %w", err)
	}
	if answer[0] != connackByte || answer[1] != 2 {
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
		flags |= 0x04 | qos1<<2
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
	b = binary.AppendUvarint(append(b, connectByte), uint64(len(head)+len(payload)))
	return append(append(b, head...), payload...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// AppendPublish appends a PUBLISH at QoS 1, at QoS 0 where id is 0 (§3.3).
func AppendPublish(b []byte, topic string, id uint16, payload []byte) []byte {
	kind, size := byte(publishByte), 2+len(topic)+len(payload)
	if id != 0 {
		kind, size = publishByte|qos1, size+2
	}
	b = binary.AppendUvarint(append(b, kind), uint64(size)) // the same coding as MQTT's remaining length
	b = appendText(b, topic)
	if id != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

// readPacket reads one packet: its first byte and what follows the remaining length.
func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	if size > maxPacket {
		return 0, nil, fmt.Errorf("the broker sent a packet of %d bytes", size)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(r, body)
	return first, body, err
}
