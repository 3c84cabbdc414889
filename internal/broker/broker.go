package broker

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// firstPosition is where the order of publishing begins: beyond the ranks that
// [hook.resume] gives out, and so that the low 16 bits, all that mochi looks at,
// overflow early, in each test and not just in a long one.
const firstPosition = 1<<17 - 100

// Options say what kind of broker it is. The zero value is a plain broker on a
// free port of 127.0.0.1 that lets anyone in and rewrites nothing.
type Options struct {
	// Listen is the plain listener's address; empty: a free port of 127.0.0.1.
	Listen string
	// TLS opens the device listener; it must demand client certificates.
	TLS *tls.Config
	// ListenTLS is its address; empty: a free port of 127.0.0.1.
	ListenTLS string

	// Username and Password are the service account of the plain listener;
	// with an empty Username anyone may connect there.
	Username, Password string
	// DeviceUsernames makes every client of the plain listener that gives a
	// user name other than Username a device with that CN, without a
	// password: devices without the cost of TLS.
	DeviceUsernames bool

	// Attest republishes device messages under their attested topics.
	Attest bool
	// AnyCN leaves out the rule's WHERE clause, so that the bridge gets to see
	// what the broker would have kept back. A missing user name is rendered as
	// "undefined".
	AnyCN bool
	// DeviceACL confines each device to the topics of its own CN. Without it a
	// device may use every topic but the attested ones.
	DeviceACL bool
	// Tamper may change an attestation before it is rendered: a broker that is
	// wrong. Called from many goroutines.
	Tamper func(*Attestation)

	// Prefix of attested topics; empty: bridge/v1.
	Prefix string
	// MaxPacket is the largest packet that a client may send, in bytes; 0: 1
	// MiB, EMQX's default. A larger one ends the connection.
	MaxPacket uint32
	// Backlog is how many messages above QoS 0 a session holds without an
	// acknowledgement; 0: 65,535, the most that MQTT's packet ids allow.
	Backlog uint16
	// Now gives attested topics their time; nil: time.Now.
	Now func() time.Time
}

// Broker is a running broker. Its methods are safe for concurrent use.
type Broker struct {
	options Options
	server  *mochi.Server
	plain   *listener
	secure  *listener // nil without TLS
	// republisher is whom mochi takes attested messages to come from.
	republisher *mochi.Client
	gate        gate
	ids         *mint
	position    atomic.Int64 // see firstPosition
	closing     sync.Once

	attested, withheld, denied, failed atomic.Int64
}

// Start opens the listeners and serves.
func Start(o Options) (*Broker, error) {
	if o.TLS != nil && o.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		return nil, errors.New("open device listener: its TLS configuration does not demand a verified client certificate")
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.ListenTLS == "" {
		o.ListenTLS = "127.0.0.1:0"
	}
	if o.Prefix == "" {
		o.Prefix = "bridge/v1"
	}
	if o.MaxPacket == 0 {
		o.MaxPacket = 1 << 20
	}
	if o.Backlog == 0 {
		o.Backlog = math.MaxUint16
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Broker{options: o, server: newServer(&o), ids: newMint()}
	b.position.Store(firstPosition)
	b.republisher = b.server.NewClient(nil, mochi.LocalListener, "", true)

	if err := b.open(); err != nil {
		// The server has not started: there is nothing of it to stop.
		for _, l := range []*listener{b.plain, b.secure} {
			if l != nil {
				l.Close(nil)
			}
		}
		return nil, err
	}
	return b, nil
}

func (b *Broker) open() (err error) {
	if err = b.server.AddHook(&hook{b: b}, nil); err != nil {
		return err
	}
	if b.plain, err = listen("plain", b.options.Listen, nil, &b.gate); err != nil {
		return err
	}
	if b.options.TLS != nil {
		if b.secure, err = listen("device", b.options.ListenTLS, b.options.TLS, &b.gate); err != nil {
			return err
		}
	}
	for _, l := range []*listener{b.plain, b.secure} {
		if l == nil {
			continue
		}
		if err = b.server.AddListener(l); err != nil {
			return err
		}
	}
	return b.server.Serve()
}

func newServer(o *Options) *mochi.Server {
	limits := mochi.NewDefaultServerCapabilities()
	limits.MaximumPacketSize = o.MaxPacket
	limits.MaximumInflight = o.Backlog
	limits.ReceiveMaximum = math.MaxUint16
	// 8 bytes each for every client, paid at connect.
	limits.MaximumClientWritesPending = 1 << 15
	// Expiry off: [hook.OnQosPublish] uses the time stamp for something else.
	limits.MaximumMessageExpiryInterval = 0
	return mochi.New(&mochi.Options{
		Capabilities:             limits,
		ClientNetReadBufferSize:  4 << 10,
		ClientNetWriteBufferSize: 16 << 10,
		// mochi publishes $SYS without asking a hook, so past the gate; once,
		// before the first client, does no harm.
		SysTopicResendInterval: int64((10 * 365 * 24 * time.Hour).Seconds()),
		// mochi logs whole packets, payload and all.
		Logger: slog.New(slog.DiscardHandler),
	})
}

// attest republishes one message of a client under its attested topic, where the
// rule applies to it.
func (b *Broker) attest(who *identity, topic string, payload []byte, qos byte) {
	if !b.options.Attest || !who.device || !ruleMatches(topic) {
		return
	}
	if !b.options.AnyCN && (!who.attributed() || len(topic) > maxRuleTopic) {
		b.withheld.Add(1)
		return
	}
	username := who.username
	if username == "" {
		username = undefined
	}
	now := b.options.Now()
	a := Attest(b.options.Prefix, b.ids.next(now), now, username, topic)
	if b.options.Tamper != nil {
		b.options.Tamper(&a)
	}
	attested := a.Render()
	if len(attested) > maxTopic {
		b.failed.Add(1)
		return
	}
	// mochi delivers copies: the payload is not shared with the original.
	err := b.server.InjectPacket(b.republisher, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos},
		TopicName:   attested,
		Payload:     payload,
		PacketID:    uint16(qos), // any but 0 above QoS 0; each session chooses its own
	})
	if err != nil {
		b.failed.Add(1)
		return
	}
	b.attested.Add(1)
}

// URL is the plain listener's, as tcp://host:port.
func (b *Broker) URL() string { return "tcp://" + b.plain.Address() }

// TLSURL is the device listener's, as ssl://host:port; empty without one.
func (b *Broker) TLSURL() string {
	if b.secure == nil {
		return ""
	}
	return "ssl://" + b.secure.Address()
}

// Client is one session, connected or not.
type Client struct {
	ID        string
	Username  string // for a device its CN
	Device    bool
	Connected bool
	Pending   int // messages above QoS 0 that wait for an acknowledgement
}

// Clients lists the sessions by client id.
func (b *Broker) Clients() []Client {
	var list []Client
	for id, cl := range b.server.Clients.GetAll() {
		who := &connOf(cl).identity
		list = append(list, Client{
			ID: id, Username: who.username, Device: who.device,
			Connected: !cl.Closed(), Pending: cl.State.Inflight.Len(),
		})
	}
	slices.SortFunc(list, func(x, y Client) int { return strings.Compare(x.ID, y.ID) })
	return list
}

// Kick closes a client's connection without a word, as a broker does that is
// short of memory; the session stays unless it was a clean one. It returns once
// the broker is done with the connection, and false where there was none.
func (b *Broker) Kick(clientID string) bool {
	cl, ok := b.server.Clients.Get(clientID)
	if !ok || cl.Closed() {
		return false
	}
	cl.Stop(packets.ErrAdministrativeAction)
	<-connOf(cl).done
	return true
}

// Stats count device messages since the start.
type Stats struct {
	Attested int64 // republished
	Withheld int64 // acknowledged, but kept back by the rule's WHERE clause
	Denied   int64 // acknowledged, but denied by the ACL
	Failed   int64 // acknowledged, but the attested topic was not a legal one
}

// Stats returns the counts so far.
func (b *Broker) Stats() Stats {
	return Stats{
		Attested: b.attested.Load(),
		Withheld: b.withheld.Load(),
		Denied:   b.denied.Load(),
		Failed:   b.failed.Load(),
	}
}

// Dropped counts deliveries that the broker gave up because a subscriber was
// slow or away for too long. While it is 0, every message above QoS 0 that a
// publisher saw acknowledged was delivered or still waits in a session.
func (b *Broker) Dropped() int64 {
	return atomic.LoadInt64(&b.server.Info.MessagesDropped) + atomic.LoadInt64(&b.server.Info.InflightDropped)
}

// Close closes all connections and waits for their goroutines. Sessions and
// what they hold are gone. Further calls do nothing.
func (b *Broker) Close() error {
	var err error
	b.closing.Do(func() { err = b.server.Close() })
	return err
}
