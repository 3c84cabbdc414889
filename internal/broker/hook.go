package broker

import (
	"crypto/subtle"
	"crypto/tls"
	"strings"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is where mochi asks the broker: who may connect, who may publish and
// subscribe what, and what becomes of a publish. session.go has the rest of it.
type hook struct {
	mochi.HookBase
	b *Broker
}

func (h *hook) ID() string { return "attesting-broker" }

func (h *hook) Provides(method byte) bool {
	switch method {
	case mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish, mochi.OnPacketProcessed,
		mochi.OnWill, mochi.OnWillSent, mochi.OnSessionEstablish, mochi.OnSessionEstablished,
		mochi.OnSubscribe, mochi.OnQosPublish, mochi.OnPacketEncode, mochi.OnSelectSubscribers:
		return true
	}
	return false
}

// connOf returns the client's connection, nil for the broker's own publisher.
func connOf(cl *mochi.Client) *conn {
	c, _ := cl.Net.Conn.(*conn)
	return c
}

// OnConnectAuthenticate settles the client's identity. On the mTLS listener the
// certificate was the credential, and the handshake is behind us.
func (h *hook) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	c, o := connOf(cl), &h.b.options
	user := string(pk.Connect.Username)
	switch {
	case c.secure:
		state := c.Conn.(*tls.Conn).ConnectionState()
		cn := state.PeerCertificates[0].Subject.CommonName
		c.identity = identity{device: true, username: cn, cn: cn}
		if cn == "" {
			// peer_cert_as_username has nothing to put there, so what the
			// CONNECT says stays: the spoof that the WHERE clause closes.
			c.identity.username = user
		}
	case o.Username != "" && user == o.Username:
		if subtle.ConstantTimeCompare(pk.Connect.Password, []byte(o.Password)) != 1 {
			return false
		}
		c.identity = identity{username: user}
	case o.DeviceUsernames && user != "":
		c.identity = identity{device: true, username: user, cn: user}
	case o.Username != "":
		return false
	default:
		c.identity = identity{username: user}
	}
	// A will is sent without another look at the ACL.
	return !pk.Connect.WillFlag || h.mayPublish(&c.identity, pk.Connect.WillTopic)
}

// OnACLCheck decides on filters at SUBSCRIBE and on topics at delivery. A
// publish passes: [hook.OnPublish] ignores it where it is denied.
func (h *hook) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	c := connOf(cl)
	if write || c == nil || !c.identity.device {
		return true
	}
	if strings.HasPrefix(topic, "$share/") {
		_, filter, _ := strings.Cut(strings.TrimPrefix(topic, "$share/"), "/")
		topic = filter
	}
	return h.mayUse(&c.identity, topic)
}

func (h *hook) mayPublish(who *identity, topic string) bool {
	return !who.device || h.mayUse(who, topic)
}

// mayUse is EMQX's acl.conf for devices. A filter whose first level is a
// wildcard would see the attested topics too.
func (h *hook) mayUse(who *identity, topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	reserved, _, _ := strings.Cut(h.b.options.Prefix, "/")
	switch first {
	case reserved, "#", "+", "$SYS":
		return false
	}
	if !h.b.options.DeviceACL {
		return true
	}
	tenant, device, _ := strings.Cut(who.cn, "/")
	own := "tenant/" + tenant + "/device/" + device
	return who.attributed() && (topic == own || strings.HasPrefix(topic, own+"/"))
}

// OnPublish republishes a device's message under its attested topic; the
// original goes on to whoever subscribed to it. As with EMQX, both happen before
// the device gets its PUBACK or PUBREC.
func (h *hook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	if c == nil {
		return pk, nil
	}
	h.b.gate.share(c)
	if !h.mayPublish(&c.identity, pk.TopicName) {
		h.b.denied.Add(1)
		return pk, packets.CodeSuccessIgnore
	}
	h.b.attest(&c.identity, pk.TopicName, pk.Payload, pk.FixedHeader.Qos)
	return pk, nil
}

// OnPacketProcessed comes after every publish that reached OnPublish, whatever
// became of it.
func (h *hook) OnPacketProcessed(cl *mochi.Client, _ packets.Packet, _ error) {
	if c := connOf(cl); c != nil {
		h.b.gate.release(c)
	}
}

// OnWill attests a will as any other publish.
func (h *hook) OnWill(cl *mochi.Client, will mochi.Will) (mochi.Will, error) {
	if c := connOf(cl); c != nil {
		h.b.gate.share(c)
		h.b.attest(&c.identity, will.TopicName, will.Payload, will.Qos)
	}
	return will, nil
}

// OnWillSent ends what OnWill began.
func (h *hook) OnWillSent(cl *mochi.Client, pk packets.Packet) { h.OnPacketProcessed(cl, pk, nil) }
