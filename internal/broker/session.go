package broker

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// OnSessionEstablish stops publishing until the session has changed hands and
// what it holds was resent: see OnSessionEstablished. The older connection of
// the same client id is closed, and has ended, before mochi looks at it.
func (h *hook) OnSessionEstablish(cl *mochi.Client, _ packets.Packet) {
	c := connOf(cl)
	for {
		h.b.gate.close(c)
		old, ok := h.b.server.Clients.Get(cl.ID)
		if !ok {
			return
		}
		before := connOf(old)
		select {
		case <-before.done:
			return
		default:
		}
		// Its goroutine may need the gate to end.
		h.b.gate.release(c)
		old.Stop(packets.ErrSessionTakenOver)
		<-before.done
	}
}

// OnSessionEstablished comes after the CONNACK and what was resent.
func (h *hook) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	h.b.gate.release(connOf(cl))
}

// OnQosPublish sees each message as it enters a session. mochi orders by the
// field Created, which holds seconds; nothing else reads it while message expiry
// is off, so it becomes the position in the order of publishing. Ignore, unused
// within a session, marks what came while nobody was connected.
func (h *hook) OnQosPublish(cl *mochi.Client, pk packets.Packet, _ int64, _ int) {
	if pk.FixedHeader.Type != packets.Publish || pk.FixedHeader.Dup {
		return
	}
	pk.Created = h.b.position.Add(1)
	pk.Ignore = cl.Closed()
	cl.State.Inflight.Set(pk)
}

// OnPacketEncode mends packets on their way out: see [hook.resume] and
// [hook.OnSubscribe].
func (h *hook) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	c := connOf(cl)
	switch pk.FixedHeader.Type {
	case packets.Connack:
		if pk.SessionPresent {
			h.resume(cl, c)
		}
	case packets.Suback:
		pk.PacketID = c.subscribeID
	case packets.Publish:
		// Only what is resent has DUP, and only while the gate is closed.
		if pk.FixedHeader.Dup {
			if _, unsent := c.unsent[pk.PacketID]; unsent {
				pk.FixedHeader.Dup = false
				delete(c.unsent, pk.PacketID)
			}
		}
	}
	return pk
}

// resume prepares an inherited session for mochi's resending, which sorts by the
// low 16 bits of Created. A session has at most 65,535 messages, one for each
// packet id, so their ranks fit.
func (h *hook) resume(cl *mochi.Client, c *conn) {
	held := cl.State.Inflight.GetAll(false)
	slices.SortFunc(held, func(a, b packets.Packet) int { return cmp.Compare(a.Created, b.Created) })
	c.unsent = make(map[uint16]struct{})
	for rank, pk := range held {
		if pk.Ignore {
			c.unsent[pk.PacketID] = struct{}{}
		}
		pk.Ignore = false
		pk.Created = int64(rank) + 1
		cl.State.Inflight.Set(pk)
	}
}

// OnSubscribe keeps mochi from comparing the SUBSCRIBE's packet id, which the
// client chose, with those of messages in flight to the client, which the broker
// chose. No message has the packet id 0.
func (h *hook) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	connOf(cl).subscribeID = pk.PacketID
	pk.PacketID = 0
	return pk
}

// OnSelectSubscribers sends all messages of one publisher to the same member of
// a $share group, so that a device's order survives.
func (h *hook) OnSelectSubscribers(subs *mochi.Subscribers, pk packets.Packet) *mochi.Subscribers {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(pk.Origin))
	subs.SharedSelected = make(map[string]packets.Subscription, len(subs.Shared))
	for _, group := range subs.Shared {
		members := slices.Sorted(maps.Keys(group))
		member := members[sum.Sum32()%uint32(len(members))]
		sub := group[member]
		if chosen, ok := subs.SharedSelected[member]; ok {
			sub = chosen.Merge(sub)
		}
		subs.SharedSelected[member] = sub
	}
	return subs
}
