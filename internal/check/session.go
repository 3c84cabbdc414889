package check

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// session is a minimal MQTT 3.1.1 session after CONNACK. paho is not used because it hides which
// step failed, and the return code of each filter in order.
type session struct {
	conn net.Conn
	r    *bufio.Reader
	id   uint16
}

func newSession(conn net.Conn) *session { return &session{conn: conn, r: bufio.NewReader(conn)} }

var errUnexpected = errors.New("the answer is not what MQTT 3.1.1 prescribes")

// subscribe subscribes to filters at QoS 1 and returns one return code per filter (§3.9.3).
// Messages may arrive first [MQTT-3.8.4-3]; they are copies and are dropped.
func (s *session) subscribe(filters []string) ([]byte, error) {
	if err := s.sendSubscribe(filters); err != nil {
		return nil, err
	}
	for {
		answer, err := s.read()
		if err != nil {
			return nil, err
		}
		ack, ok := answer.(*packets.SubackPacket)
		if !ok || ack.MessageID != s.id {
			continue
		}
		if len(ack.ReturnCodes) != len(filters) {
			return nil, fmt.Errorf("%w: %d return codes for %d filters", errUnexpected, len(ack.ReturnCodes), len(filters))
		}
		return ack.ReturnCodes, nil
	}
}

// retained subscribes and returns the first retained message below prefix. ok is false if none
// arrives within timeout.
func (s *session) retained(prefix string, timeout time.Duration, filters ...string) (topic, payload string, ok bool) {
	deadline := time.Now().Add(timeout)
	if err := s.sendSubscribe(filters); err != nil {
		return "", "", false
	}
	for {
		_ = s.conn.SetReadDeadline(deadline)
		answer, err := packets.ReadPacket(s.r)
		if err != nil {
			return "", "", false
		}
		switch p := answer.(type) {
		case *packets.PublishPacket:
			if strings.HasPrefix(p.TopicName, prefix) {
				return p.TopicName, string(p.Payload), true
			}
		case *packets.SubackPacket:
			if p.MessageID == s.id && allRefused(p.ReturnCodes) {
				return "", "", false
			}
		}
	}
}

// roundTrip publishes an empty message to each topic and returns the topics whose messages are
// delivered within timeout.
func (s *session) roundTrip(topics []string, timeout time.Duration) map[string]bool {
	got := map[string]bool{}
	for _, topic := range topics {
		p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		p.TopicName = topic
		if s.send(p) != nil {
			return got
		}
	}
	deadline := time.Now().Add(timeout)
	for len(got) < len(topics) {
		_ = s.conn.SetReadDeadline(deadline)
		answer, err := packets.ReadPacket(s.r)
		if err != nil {
			return got
		}
		if p, ok := answer.(*packets.PublishPacket); ok {
			got[p.TopicName] = true
		}
	}
	return got
}

func allRefused(codes []byte) bool {
	for _, c := range codes {
		if c < 0x80 {
			return false
		}
	}
	return true
}

func (s *session) sendSubscribe(filters []string) error {
	s.id++
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics = s.id, filters
	for range filters {
		p.Qoss = append(p.Qoss, 1)
	}
	return s.send(p)
}

// disconnect ends a clean session, and with it its subscriptions.
func (s *session) disconnect() {
	_ = s.send(packets.NewControlPacket(packets.Disconnect))
}

func (s *session) send(p packets.ControlPacket) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(stepTimeout)); err != nil {
		return err
	}
	return p.Write(s.conn)
}

func (s *session) read() (packets.ControlPacket, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(stepTimeout)); err != nil {
		return nil, err
	}
	return packets.ReadPacket(s.r)
}
