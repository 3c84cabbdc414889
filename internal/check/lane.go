package check

import (
	"errors"
	"slices"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/limit"
)

// deliver gives a new lane one message and returns what the lane publishes.
func deliver(rules *bridge.Rules, topic []byte) (*bridge.Message, error) {
	validated := *rules
	validated.Quarantine = true // every verdict has to show
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
	kept := &keeper{}
	lane.Start(kept)
	lane.Deliver(silence{}, &bridge.Delivery{
		Topic: topic, Payload: []byte("{}"), PayloadSize: 2, // JSON, for the envelope
		ReceivedAt: time.Now().UnixNano(), PacketID: 1, QoS: 1,
	})
	if kept.message == nil {
		return nil, errors.New("validate the topic: the lane published nothing")
	}
	return kept.message, nil
}

// keeper is a publisher that keeps the latest message.
type keeper struct{ message *bridge.Message }

// Publish implements [bridge.Publisher].
func (k *keeper) Publish(m *bridge.Message) {
	kept := &bridge.Message{Subject: slices.Clone(m.Subject)}
	for _, h := range m.Headers {
		kept.Headers = append(kept.Headers, bridge.Header{Name: h.Name, Value: slices.Clone(h.Value)})
	}
	k.message = kept
}

// silence is a connection without a broker.
type silence struct{}

// Ack implements [bridge.Conn].
func (silence) Ack(uint16) {}

// Flush implements [bridge.Conn].
func (silence) Flush() {}
