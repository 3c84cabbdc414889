package broker

import (
	"hash/fnv"
	"maps"
	"slices"
	"sync"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// ruleID is the client id under which the rule republishes. It is a constant, so hash_clientid picks
// the same member of a $share group for all devices (E8).
const ruleID = "attest"

// roundRobin counts the messages of each $share group, for [RoundRobin].
type roundRobin struct {
	mu      sync.Mutex
	byGroup map[string]uint32
}

func (r *roundRobin) next(group string) uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byGroup[group]++
	return r.byGroup[group] - 1
}

// dispatch adds m to the sessions of its subscribers and of one member of each $share group. When it
// returns, m is delivered, queued or dropped.
func (b *Broker) dispatch(m message) {
	if m.retain {
		b.server.Topics.RetainMessage(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.qos, Retain: true},
			TopicName:   m.topic, Payload: m.payload, Origin: m.from,
		})
		m.retain = false // [MQTT-3.3.1-9]
	}
	subs := b.server.Topics.Subscribers(m.topic)
	if len(subs.Subscriptions)+len(subs.Shared) == 0 {
		b.noSubscribers.Add(1)
		return
	}
	for id, sub := range subs.Subscriptions {
		if !sub.NoLocal || m.publisher != id {
			b.deliver(id, sub, m, true)
		}
	}
	for group, members := range subs.Shared {
		id := b.pick(group, slices.Sorted(maps.Keys(members)), m.from)
		b.deliver(id, members[id], m, false)
	}
}

func (b *Broker) deliver(id string, sub packets.Subscription, m message, plain bool) {
	if s := b.sessions.get(id); s != nil {
		m.qos = min(m.qos, sub.Qos)
		s.deliver(m, plain)
	}
}

func (b *Broker) pick(group string, members []string, from string) string {
	var n uint32
	switch b.options.Share {
	case RoundRobin:
		n = b.roundRobin.next(group)
	default:
		h := fnv.New32a()
		_, _ = h.Write([]byte(from))
		n = h.Sum32()
	}
	return members[n%uint32(len(members))]
}

// OnSubscribe prevents mochi from sending retained messages, because it would assign its own packet
// ids. [hook.OnPacketProcessed] sends them instead.
func (h *hook) OnSubscribe(_ *mochi.Client, pk packets.Packet) packets.Packet {
	for i := range pk.Filters {
		pk.Filters[i].RetainHandling = 2
	}
	return pk
}

// OnSubscribed records which filters were granted.
func (h *hook) OnSubscribed(cl *mochi.Client, pk packets.Packet, codes []byte) {
	c := connOf(cl)
	c.granted = nil
	for i, sub := range pk.Filters {
		if codes[i] <= packets.CodeGrantedQos2.Code && !mochi.IsSharedFilter(sub.Filter) {
			c.granted = append(c.granted, sub)
		}
	}
}

// deliverRetained delivers the retained messages of the granted filters, after the SUBACK.
func (b *Broker) deliverRetained(c *conn) {
	for _, sub := range c.granted {
		for _, pk := range b.server.Topics.Messages(sub.Filter) {
			c.session.deliver(message{
				topic: pk.TopicName, payload: pk.Payload, qos: min(pk.FixedHeader.Qos, sub.Qos), retain: true,
			}, false)
		}
	}
	c.granted = nil
}
