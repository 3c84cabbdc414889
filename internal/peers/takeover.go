package peers

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// takeOver connects as clientID without cleaning its session, waits for the
// CONNACK, by which the broker has closed the older connection [MQTT-3.1.4-2],
// and leaves without acknowledging anything.
func takeOver(addr, clientID, username, password string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return fmt.Errorf("connect as %s: %w", clientID, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(connectPacket(clientID, username, password)); err != nil {
		return fmt.Errorf("send CONNECT as %s: %w", clientID, err)
	}
	var connack [4]byte
	if _, err := io.ReadFull(c, connack[:]); err != nil {
		return fmt.Errorf("read CONNACK as %s: %w", clientID, err)
	}
	if connack[0] != 0x20 || connack[3] != 0 {
		return fmt.Errorf("connect as %s: the broker answered % x", clientID, connack)
	}
	return nil
}

// connectPacket is an MQTT 3.1.1 CONNECT with clean session 0 (§3.1).
func connectPacket(clientID, username, password string) []byte {
	flags := byte(0)
	fields := []string{clientID}
	if username != "" {
		flags |= 0x80
		fields = append(fields, username)
	}
	if password != "" {
		flags |= 0x40
		fields = append(fields, password)
	}
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 60}
	for _, field := range fields {
		body = binary.BigEndian.AppendUint16(body, uint16(len(field)))
		body = append(body, field...)
	}
	packet := []byte{0x10}
	packet = binary.AppendUvarint(packet, uint64(len(body))) // the same coding as MQTT's remaining length
	return append(packet, body...)
}
