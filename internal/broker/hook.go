package broker

import (
	"slices"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook implements mochi's hooks. This file handles publishes; the other hooks are in access.go,
// sessions.go and dispatch.go.
type hook struct {
	mochi.HookBase
	b *Broker
}

func (h *hook) ID() string { return "attesting-broker" }

func (h *hook) Provides(method byte) bool {
	return slices.Contains([]byte{
		mochi.OnConnect, mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPacketRead,
		mochi.OnPublish, mochi.OnPacketProcessed, mochi.OnWill,
		mochi.OnSessionEstablish, mochi.OnSessionEstablished,
		mochi.OnSubscribe, mochi.OnSubscribed, mochi.OnPacketEncode,
	}, method)
}

// connOf returns the client's connection.
func connOf(cl *mochi.Client) *conn { return cl.Net.Conn.(*conn) }

// OnPublish applies the rule and then delivers the original message. As in EMQX, both happen before
// the publisher gets its PUBACK or PUBREC. mochi only sends the acknowledgement.
func (h *hook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	if !c.denied {
		m := message{
			topic: pk.TopicName, payload: pk.Payload, qos: pk.FixedHeader.Qos, retain: pk.FixedHeader.Retain,
			from: cl.ID, publisher: cl.ID,
		}
		h.b.attest(&c.identity, m, c.rate.received(&h.b.options))
		h.b.dispatch(m)
	}
	return pk, packets.CodeSuccessIgnore
}

// OnPacketProcessed handles acknowledgements, and sends retained messages after the SUBACK.
func (h *hook) OnPacketProcessed(cl *mochi.Client, pk packets.Packet, _ error) {
	c := connOf(cl)
	switch pk.FixedHeader.Type {
	case packets.Puback, packets.Pubrec:
		c.session.acknowledged(c, pk.PacketID)
	case packets.Subscribe:
		h.b.deliverRetained(c)
	}
}

// OnWill publishes a will if the ACL allows it. The rule processes it without client_attrs and with
// the CONNECT packet's user name (E6). The returned empty will keeps mochi from publishing it again.
func (h *hook) OnWill(cl *mochi.Client, will mochi.Will) (mochi.Will, error) {
	c := connOf(cl)
	if !h.b.authorized(c, true, will.TopicName) {
		h.b.denied.Add(1)
		return mochi.Will{}, nil
	}
	client := c.identity
	if !h.b.options.WillAttributes {
		client.cn, client.username = "", client.connectUsername
	}
	m := message{
		topic: will.TopicName, payload: will.Payload, qos: will.Qos, retain: will.Retain,
		from: cl.ID, publisher: cl.ID,
	}
	h.b.attest(&client, m, h.b.options.Now())
	h.b.dispatch(m)
	return mochi.Will{}, nil
}

// OnPacketEncode sends an MQTT 5 client the limits of its zone, as EMQX does (E7).
func (h *hook) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack {
		zone := connOf(cl).zone()
		pk.Properties.ReceiveMaximum = uint16(zone.MaxInflight)
		pk.Properties.MaximumPacketSize = zone.MaxPacket
	}
	return pk
}
