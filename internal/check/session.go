package check

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// session is a minimal MQTT 3.1.1 session after CONNACK. paho is not used because it hides which
// step failed, and the return code of each filter in order.
type session struct {
	conn net.Conn
	id   uint16
}

var errUnexpected = errors.New("the answer is not what MQTT 3.1.1 prescribes")

// subscribe subscribes to filters at QoS 1 and returns one return code per filter (§3.9.3).
// Messages may arrive first [MQTT-3.8.4-3]; they are copies and are dropped.
func (s *session) subscribe(filters []string) ([]byte, error) {
	if err := s.sendSubscribe(filters); err != nil {
		return nil, err
	}
	var codes []byte
	err := s.await(stepTimeout, func(p packets.ControlPacket) bool {
		ack, ok := p.(*packets.SubackPacket)
		if !ok || ack.MessageID != s.id {
			return false
		}
		codes = ack.ReturnCodes
		return true
	})
	if err == nil && len(codes) != len(filters) {
		err = fmt.Errorf("%w: %d return codes for %d filters", errUnexpected, len(codes), len(filters))
	}
	return codes, err
}

// retained subscribes and returns the first retained message below prefix. ok is false if none
// arrives within timeout.
func (s *session) retained(prefix string, timeout time.Duration, filters ...string) (topic, payload string, ok bool) {
	if err := s.sendSubscribe(filters); err != nil {
		return "", "", false
	}
	_ = s.await(timeout, func(p packets.ControlPacket) bool {
		switch p := p.(type) {
		case *packets.PublishPacket:
			topic, payload, ok = p.TopicName, string(p.Payload), strings.HasPrefix(p.TopicName, prefix)
			return ok
		case *packets.SubackPacket:
			return p.MessageID == s.id && allRefused(p.ReturnCodes)
		}
		return false
	})
	return topic, payload, ok
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
	_ = s.await(timeout, func(p packets.ControlPacket) bool {
		if p, ok := p.(*packets.PublishPacket); ok {
			got[p.TopicName] = true
		}
		return len(got) == len(topics)
	})
	return got
}

func allRefused(codes []byte) bool {
	return !slices.ContainsFunc(codes, func(code byte) bool { return code < 0x80 })
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

// await reads packets until done returns true for one, at most for timeout.
func (s *session) await(timeout time.Duration, done func(packets.ControlPacket) bool) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	for {
		p, err := packets.ReadPacket(s.conn)
		if err != nil || done(p) {
			return err
		}
	}
}
