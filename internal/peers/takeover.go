package peers

import (
	"fmt"
	"net"
	"time"

	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// takeOver connects as clientID without a clean session and waits for the CONNACK. The broker has then
// closed the older connection [MQTT-3.1.4-2]. takeOver disconnects without acknowledging any message.
func takeOver(addr, clientID, username, password string) error {
	c, err := net.DialTimeout("tcp", addr, testrun.Timeout)
	if err != nil {
		return fmt.Errorf("connect as %s: %w", clientID, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testrun.Timeout))
	connect := wire.Connect{ClientID: clientID, Username: username, Password: password, KeepSession: true, KeepAlive: time.Minute}
	if _, err := connect.Handshake(c); err != nil {
		return fmt.Errorf("connect as %s: %w", clientID, err)
	}
	return nil
}
