package check

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// errNotMQTT5 means that the broker does not accept MQTT 5.
var errNotMQTT5 = errors.New("the broker does not accept MQTT 5")

// announce connects with MQTT 5 and a clean start, reads CONNACK and disconnects. The
// properties of CONNACK (§3.2.2.3) contain the broker's limits. The same limits apply in MQTT
// 3.1.1, which the bridge uses, but are not announced there.
func announce(conn net.Conn, clientID, username, password string) (limits packets.Properties, err error) {
	connect := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 60, ClientIdentifier: clientID,
			UsernameFlag: username != "", Username: []byte(username),
			PasswordFlag: password != "", Password: []byte(password),
		},
	}
	var request bytes.Buffer
	if err := connect.ConnectEncode(&request); err != nil {
		return limits, err
	}
	if err := conn.SetDeadline(time.Now().Add(stepTimeout)); err != nil {
		return limits, err
	}
	if _, err := conn.Write(request.Bytes()); err != nil {
		return limits, err
	}
	r := bufio.NewReader(conn)
	first, err := r.ReadByte()
	if err != nil {
		return limits, errNotMQTT5 // a broker may close the connection instead of answering
	}
	size, err := binary.ReadUvarint(r)
	if err != nil || first != packets.Connack<<4 || size < 2 || size > 64<<10 {
		return limits, errNotMQTT5
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return limits, errNotMQTT5
	}
	switch code := body[1]; {
	case code == 1 || code == 0x84: // unacceptable protocol version, in 3.1.1 and in 5
		return limits, errNotMQTT5
	case code != 0:
		return limits, fmt.Errorf("CONNACK 0x%02x", code)
	}
	_, _ = conn.Write([]byte{packets.Disconnect << 4, 0})
	connack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: 5}
	if err := connack.ConnackDecode(body); err != nil {
		return limits, fmt.Errorf("%w: CONNACK's properties", errUnexpected)
	}
	return connack.Properties, nil
}
