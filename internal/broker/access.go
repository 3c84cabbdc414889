package broker

import (
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"strings"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

var errGateShut = errors.New("the devices' listener is not open yet")

// OnConnect settles the client's identity and its client id. On the mTLS listener
// the certificate was the credential, and the handshake is behind us.
func (h *hook) OnConnect(cl *mochi.Client, pk packets.Packet) error {
	c, o := connOf(cl), &h.b.options
	user := string(pk.Connect.Username)
	who := identity{username: user, connectUsername: user}
	switch {
	case c.secure:
		state := c.Conn.(*tls.Conn).ConnectionState()
		who.device, who.cn = true, state.PeerCertificates[0].Subject.CommonName
		// Without a CN peer_cert_as_username has nothing to put there, so what
		// the CONNECT says stays: the spoof that the WHERE clause closes.
		if who.cn != "" {
			who.username = who.cn
		}
	case o.DeviceUsernames && user != "" && user != o.Username:
		who.device, who.cn = true, user
	}
	c.identity = who
	if !who.device {
		return nil
	}
	if !h.b.gateOpen.Load() {
		return errGateShut // plain listener; the devices' own does not get here
	}
	if !o.GlobalClientIDs {
		cl.ID = who.cn + "/" + cl.ID // clientid_override, [Options.GlobalClientIDs]
	}
	c.lump.limit(o)
	return nil
}

// OnConnectAuthenticate checks a service's password. The devices' listener has
// enable_authn = false.
func (h *hook) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	c, o := connOf(cl), &h.b.options
	switch {
	case c.identity.device:
		return true
	case !h.b.loaded(Authentication):
		return false
	case o.Username == "":
		return true
	}
	return c.identity.username == o.Username && subtle.ConstantTimeCompare(pk.Connect.Password, []byte(o.Password)) == 1
}

// OnPacketRead looks at packets before mochi does: ErrRejectPacket closes the
// connection without an answer, which is deny_action = disconnect.
func (h *hook) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	if c.session == nil {
		return pk, nil // CONNECT
	}
	if uint32(pk.FixedHeader.Remaining) >= c.zone().MaxPacket {
		return pk, packets.ErrRejectPacket
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		c.lump.messages++
		c.denied = !h.b.authorized(c, true, pk.TopicName)
		if c.denied {
			h.b.denied.Add(1)
		}
	case packets.Subscribe:
		c.denied = false
		for _, sub := range pk.Filters {
			c.denied = c.denied || !h.b.authorized(c, false, sub.Filter)
		}
	default:
		return pk, nil
	}
	if c.denied && !h.b.options.DenyIgnored {
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}

// OnACLCheck decides on the filters of a SUBSCRIBE. A publish passes:
// [hook.OnPublish] drops it where it is denied.
func (h *hook) OnACLCheck(cl *mochi.Client, filter string, write bool) bool {
	return write || h.b.authorized(connOf(cl), false, filter)
}

// permission is a question to the ACL.
type permission struct {
	publish bool
	topic   string
}

// answer is what the cache keeps of it.
type answer struct {
	allowed bool
	until   time.Time
}

// authorized asks the ACL, or the connection's cache of answers.
func (b *Broker) authorized(c *conn, publish bool, topic string) bool {
	ttl := b.options.AuthzCache
	if ttl <= 0 {
		return b.allowed(&c.identity, topic)
	}
	p, now := permission{publish, topic}, time.Now()
	if a, ok := c.answers[p]; ok && now.Before(a.until) {
		return a.allowed
	}
	a := answer{b.allowed(&c.identity, topic), now.Add(ttl)}
	if c.answers == nil {
		c.answers = make(map[permission]answer)
	}
	c.answers[p] = a
	return a.allowed
}

// allowed is EMQX's acl.conf. A filter whose first level is a wildcard would see
// the attested topics too.
func (b *Broker) allowed(who *identity, topic string) bool {
	if !b.loaded(ACL) {
		return false
	}
	if !who.device {
		return true
	}
	if rest, ok := strings.CutPrefix(topic, "$share/"); ok {
		_, topic, _ = strings.Cut(rest, "/")
	}
	first, _, _ := strings.Cut(topic, "/")
	reserved, _, _ := strings.Cut(b.options.Prefix, "/")
	switch first {
	case reserved, "#", "+", "$SYS":
		return false
	}
	if !b.options.DeviceACL {
		return true
	}
	tenant, device, _ := strings.Cut(who.cn, "/")
	own := "tenant/" + tenant + "/device/" + device
	return who.attributed() && (topic == own || strings.HasPrefix(topic, own+"/"))
}
