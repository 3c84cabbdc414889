package check

import (
	"errors"
	"slices"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/limit"
)

// deliver delivers one message to a new lane and returns the message that the lane publishes.
func deliver(rules *bridge.Rules, topic []byte) (*bridge.Message, error) {
	validated := *rules
	validated.Quarantine = true // every verdict must be visible
	limits, err := limit.NewLive(limit.Limits{MaxPayload: 1 << 10}, nil)
	if err != nil {
		return nil, err
	}
	lane, err := bridge.NewLane(bridge.LaneOptions{
		Name: "check", Rules: &validated, Limits: limits,
		Devices: limit.NewBudgets(limit.BudgetOptions{}), Tenants: limit.NewBudgets(limit.BudgetOptions{}),
	})
	if err != nil {
		return nil, err
	}
	kept := &recorder{}
	lane.Start(kept)
	lane.Deliver(discardAcks{}, &bridge.Delivery{
		Topic: topic, Payload: []byte("{}"), PayloadSize: 2, // the envelope needs JSON
		ReceivedAt: time.Now().UnixNano(), PacketID: 1, QoS: 1,
	})
	if kept.message == nil {
		return nil, errors.New("validate the topic: the lane published nothing")
	}
	return kept.message, nil
}

// recorder is a publisher that records the latest message.
type recorder struct{ message *bridge.Message }

// Publish implements [bridge.Publisher].
func (k *recorder) Publish(m *bridge.Message) {
	kept := &bridge.Message{Subject: slices.Clone(m.Subject)}
	for _, h := range m.Headers {
		kept.Headers = append(kept.Headers, bridge.Header{Name: h.Name, Value: slices.Clone(h.Value)})
	}
	k.message = kept
}

// discardAcks is a connection that discards PUBACKs.
type discardAcks struct{}

// Ack implements [bridge.Conn].
func (discardAcks) Ack(uint16) {}

// Flush implements [bridge.Conn].
func (discardAcks) Flush() {}
