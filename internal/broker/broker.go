package broker

import (
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
)

// Broker is a running broker. Its methods are safe for concurrent use.
type Broker struct {
	options  Options
	server   *mochi.Server
	plain    *listener
	secure   *listener // nil without TLS
	ids      *mint
	unloaded atomic.Uint32 // of Part
	gateOpen atomic.Bool
	sessions sessions
	turns    turns
	closing  sync.Once

	attested, withheld, denied, failed atomic.Int64
	noSubscribers, overflowed          atomic.Int64
}

// Open opens the listeners and serves.
func Open(o Options) (*Broker, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	b := &Broker{options: o, server: newServer(&o), ids: newMint()}
	b.sessions.byID = make(map[string]*session)
	b.unloaded.Store(uint32(o.Unloaded))
	b.gateOpen.Store(!o.Gate)
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
	if b.plain, err = listen("plain", b.options.Listen, nil, b); err != nil {
		return err
	}
	if b.options.TLS != nil {
		if b.secure, err = listen("device", b.options.ListenTLS, b.options.TLS, b); err != nil {
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
	limits.MaximumPacketSize = max(o.Services.MaxPacket, o.Devices.MaxPacket)
	limits.MaximumInflight = math.MaxUint16
	limits.ReceiveMaximum = math.MaxUint16
	limits.MaximumClientWritesPending = 1   // deliveries do not go this way
	limits.MaximumMessageExpiryInterval = 0 // retained messages have no time stamp here
	return mochi.New(&mochi.Options{
		Capabilities:            limits,
		ClientNetReadBufferSize: lumpBytes,
		// mochi publishes $SYS past the sessions: once, before the first client.
		SysTopicResendInterval: int64((10 * 365 * 24 * time.Hour).Seconds()),
		// mochi logs whole packets, payload and all.
		Logger: slog.New(slog.DiscardHandler),
	})
}

// URL is the plain listener's, as tcp://host:port.
func (b *Broker) URL() string { return "tcp://" + b.plain.Address() }

// TLSURL is the devices' listener's, as ssl://host:port; empty without one.
func (b *Broker) TLSURL() string {
	if b.secure == nil {
		return ""
	}
	return "ssl://" + b.secure.Address()
}

// Load ends the wait for parts of the configuration: see [Options.Unloaded].
func (b *Broker) Load(parts Part) { b.unloaded.And(^uint32(parts)) }

func (b *Broker) loaded(part Part) bool { return Part(b.unloaded.Load())&part == 0 }

// OpenGate lets devices connect: see [Options.Gate].
func (b *Broker) OpenGate() { b.gateOpen.Store(true) }

// Client is one session, connected or not.
type Client struct {
	ID        string
	Username  string // for a device its CN
	Device    bool
	Connected bool
	Pending   int   // messages above QoS 0 sent and not acknowledged, or queued
	InFlight  int   // those that were sent
	Queued    int   // those that are queued, QoS 0 included
	Dropped   int64 // by the full queue
	Limits    Zone  // the queue's of where the session was created
}

// Clients lists the sessions by client id. A client that has its CONNACK is connected.
func (b *Broker) Clients() []Client {
	b.sessions.establishing.Lock()
	defer b.sessions.establishing.Unlock()
	var list []Client
	for _, s := range b.sessions.all() {
		list = append(list, s.client())
	}
	slices.SortFunc(list, func(x, y Client) int { return strings.Compare(x.ID, y.ID) })
	return list
}

// Stats count device messages since the start.
type Stats struct {
	Attested int64 // republished
	Withheld int64 // acknowledged, but kept back by the rule's WHERE clause or while it is not loaded
	Denied   int64 // denied by the ACL, acknowledged or not
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

// Counters are the broker's own, as EMQX counts.
type Counters struct {
	// NoSubscribers counts published messages that no session was subscribed to;
	// so each device message whose own topic nobody subscribes to, although its
	// attested copy is delivered.
	NoSubscribers int64
	// QueueFull counts deliveries dropped by full queues.
	QueueFull int64
	// TakeoverLost counts what [Options.TakeoverRace] lost. EMQX has no such counter.
	TakeoverLost int64
}

// Counters returns the counts so far.
func (b *Broker) Counters() Counters {
	return Counters{
		NoSubscribers: b.noSubscribers.Load(),
		QueueFull:     b.sessions.queueFull.Load(),
		TakeoverLost:  b.sessions.takeoverLost.Load(),
	}
}

// Dropped counts deliveries that the broker gave up because a subscriber was slow
// or away for too long. While it is 0, every message above QoS 0 that a publisher
// saw acknowledged was delivered or still waits in a session, except for what
// [Options.TakeoverRace] lost and what went with a session that was ended.
func (b *Broker) Dropped() int64 { return b.sessions.queueFull.Load() + b.overflowed.Load() }

// Close closes all connections and waits for their goroutines. Sessions and their
// queues are gone: EMQX without durable sessions loses them in a restart too.
// Further calls do nothing.
func (b *Broker) Close() error {
	var err error
	b.closing.Do(func() { err = b.server.Close() })
	return err
}
