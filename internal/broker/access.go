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

var errGateClosed = errors.New("the devices' listener is not open yet")

// OnConnect determines the client's identity and its client id. On the mTLS listener the certificate
// is the credential, and the handshake is already complete.
func (h *hook) OnConnect(cl *mochi.Client, pk packets.Packet) error {
	c, o := connOf(cl), &h.b.options
	user := string(pk.Connect.Username)
	id := identity{username: user, connectUsername: user}
	switch {
	case c.secure:
		state := c.Conn.(*tls.Conn).ConnectionState()
		id.device, id.cn = true, state.PeerCertificates[0].Subject.CommonName
		// Without a CN, peer_cert_as_username keeps the user name of the CONNECT
		// packet. The rule's WHERE clause prevents this way of spoofing.
		if id.cn != "" {
			id.username = id.cn
		}
	case o.DeviceUsernames && user != "" && user != o.Username:
		id.device, id.cn = true, user
	}
	c.identity = id
	if !id.device {
		return nil
	}
	if !h.b.gateOpen.Load() {
		return errGateClosed // on the plain listener; the devices' listener refuses earlier
	}
	if !o.GlobalClientIDs {
		cl.ID = id.cn + "/" + cl.ID // clientid_override, [Options.GlobalClientIDs]
	}
	c.rate.set(o)
	return nil
}

// OnConnectAuthenticate checks a service's password. Devices have none: their listener has
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

// OnPacketRead checks packets before mochi processes them. ErrRejectPacket closes the connection
// without a response, which is EMQX's deny_action = disconnect.
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
		c.rate.messages++
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

// OnACLCheck authorizes the filters of a SUBSCRIBE. A PUBLISH always passes here, because
// [hook.OnPublish] drops the denied ones.
func (h *hook) OnACLCheck(cl *mochi.Client, filter string, write bool) bool {
	return write || h.b.authorized(connOf(cl), false, filter)
}

// permission is the key of a cached ACL decision.
type permission struct {
	publish bool
	topic   string
}

// decision is a cached ACL decision.
type decision struct {
	allowed bool
	until   time.Time
}

// authorized returns the ACL's decision, from the connection's cache if that is enabled.
func (b *Broker) authorized(c *conn, publish bool, topic string) bool {
	ttl := b.options.AuthzCache
	if ttl <= 0 {
		return b.allowed(&c.identity, topic)
	}
	p, now := permission{publish, topic}, time.Now()
	if d, ok := c.decisions[p]; ok && now.Before(d.until) {
		return d.allowed
	}
	d := decision{b.allowed(&c.identity, topic), now.Add(ttl)}
	c.decisions[p] = d
	return d.allowed
}

// allowed implements the rules of EMQX's acl.conf. It denies filters whose first level is a wildcard,
// because they would match the attested topics too.
func (b *Broker) allowed(id *identity, topic string) bool {
	if !b.loaded(ACL) {
		return false
	}
	if !id.device {
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
	tenant, device, _ := strings.Cut(id.cn, "/")
	own := "tenant/" + tenant + "/device/" + device
	return id.attributed() && (topic == own || strings.HasPrefix(topic, own+"/"))
}
